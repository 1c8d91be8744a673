/** The second step of a login, until it is done or expires. */
export interface Challenge {
  kind: 'challenge'
  token: string
  username: string
  expiresAtMs: number
  /** Of a code from the app. */
  digits: number
  /** Whether a backup code is accepted too. */
  acceptsBackupCode: boolean
  /** How long a device can be trusted; null: not offered. */
  trustedDeviceDays: number | null
}

/** An enrollment that was begun. The server keeps its secret, and gives it to this session again. */
export interface BegunSetup {
  kind: 'setup'
  username: string
  /** Of the new authenticator; empty: it has none. */
  name: string
  expiresAtMs: number
  /** Of a user who cannot log in before 2FA is on; null for one who is logged in. */
  enrollmentToken: string | null
  /** There is an authenticator already. */
  isFurther: boolean
}

const KEY = 'totp-kit-demo-unfinished'

// A phone drops the tab while its owner looks into the authenticator app. sessionStorage survives that, and a reload.
// It holds short-lived tokens only; the secret of an enrollment is never in it.
export function keepUnfinished(step: Challenge | BegunSetup): void {
  sessionStorage.setItem(KEY, JSON.stringify(step))
}

export function forgetUnfinished(): void {
  sessionStorage.removeItem(KEY)
}

/** Null when nothing is unfinished, or when it has expired. */
export function readUnfinished(): Challenge | BegunSetup | null {
  const stored = sessionStorage.getItem(KEY)
  if (stored === null) return null
  const step = JSON.parse(stored) as Challenge | BegunSetup
  return step.expiresAtMs > Date.now() ? step : null
}
