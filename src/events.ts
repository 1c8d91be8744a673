import type { UnixSeconds } from './clock.ts'
import type { ErrorCode } from './errors.ts'

/** How a second factor was proved: with a code of the authenticator app, or with a backup code. */
export type SecondFactorMethod = 'totp' | 'backup_code'

/** What the flows announce. None of them holds a secret, a code, a token or a sealed value. */
export type TotpEvent = { userId: string; at: UnixSeconds } & (
  | { type: 'totp.created' }
  /** `replaced`: in the place of a live authenticator; `added`: beside one. Both false: 2FA is on from now. */
  | { type: 'totp.confirmed'; replaced: boolean; added: boolean }
  /** An authenticator that the user had elsewhere. `added`: beside a live one; else 2FA is on from now. */
  | { type: 'totp.imported'; authenticatorId: string; added: boolean }
  | { type: 'totp.disabled' }
  | { type: 'totp.verified'; method: SecondFactorMethod }
  | { type: 'totp.refused'; method: SecondFactorMethod; code: ErrorCode }
  /**
   * So many wrong codes in a row, after a right password, that the next attempt has to wait: somebody may know the
   * password. `recovery_password`: so many wrong passwords with a recovery link; somebody may read the mail.
   */
  | { type: 'totp.failing'; method: SecondFactorMethod | 'recovery_password'; consecutive: number }
  /** The hard cap is reached. */
  | { type: 'totp.locked'; method: SecondFactorMethod | 'recovery_password' }
  | { type: 'totp.unlocked' }
  /** The app's clock is off; two codes in a row have shown by how much. */
  | { type: 'totp.resynchronized'; authenticatorId: string; clockOffsetSeconds: number }
  | { type: 'authenticator.removed'; authenticatorId: string }
  | { type: 'login.challenged' }
  | { type: 'step_up.refused' }
  | { type: 'enrollment.required' }
  | { type: 'backup_codes.rotated' }
  | { type: 'backup_codes.viewed' }
  | { type: 'backup_code.used'; remaining: number }
  | { type: 'trusted_device.kept'; deviceId: string; name: string | null }
  | { type: 'trusted_device.used'; deviceId: string }
  /**
   * Its token was used before, the device has expired or was removed, or the factors have changed. `copied`: the device was
   * trusted until now, and ended because the token was used before.
   */
  | { type: 'trusted_device.refused'; deviceId: string; copied: boolean }
  | { type: 'trusted_device.removed'; deviceId: string }
  | { type: 'recovery.requested' }
  | { type: 'recovery.refused'; code: ErrorCode }
  /** 2FA is off, after link and password. */
  | { type: 'recovery.confirmed' }
  | { type: 'recovery.canceled' }
  /**
   * A refresh token that is not the living one of its family; the family has ended. `reused`: the token was replaced or
   * logged out before, and not ended by a change; true once per family.
   */
  | { type: 'tokens.refused'; reused: boolean }
  | { type: 'credentials.changed' }
  /**
   * The factors or the credentials changed: end all sessions of the user except `keptSessionId`, the one that made the
   * change; null: all of them. Comes before the event that says what changed.
   */
  | { type: 'sessions.ended'; keptSessionId: string | null }
  /** Everything that was known of the user is deleted. */
  | { type: 'user.forgotten' }
  | { type: 'secret.unreadable' }
  | { type: 'mail.failed' }
)

/** Hears one kind of event. What it throws or rejects with never reaches the request that caused the event. */
export type TotpListener<T extends TotpEvent['type']> = (event: Extract<TotpEvent, { type: T }>) => void | Promise<void>

/** Tells every listener of the event's type, and waits for those that want to be waited for. Never rejects. */
export type Announce = (event: TotpEvent) => Promise<void>

export interface ListenerOptions {
  /**
   * True: the request that caused the event is answered when the listener is done, or after ten seconds; for an audit
   * log that must not lag behind. Default: it is not waited for.
   */
  awaited?: boolean
}

/** Begins to listen to one kind of event, or to all with `*`. @returns ends it */
export type Listen = <T extends TotpEvent['type'] | '*'>(
  type: T,
  listener: (event: T extends '*' ? TotpEvent : Extract<TotpEvent, { type: T }>) => void | Promise<void>,
  options?: ListenerOptions,
) => () => void

/** Listeners by type, and the way to tell them. */
export interface Announcer {
  on: Listen
  announce: Announce
}

type AnyListener = (event: TotpEvent) => void | Promise<void>

/** A listener that hangs must not hold logins for ever. */
const MAX_WAIT_MS = 10_000

/** @param onListenerError - hears what a listener threw or rejected with */
export function createAnnouncer(onListenerError: (error: unknown) => void): Announcer {
  const listeners = new Set<{ type: string; listener: AnyListener; awaited: boolean }>()
  return {
    on(type, listener, { awaited = false } = {}) {
      const one = { type, listener: listener as AnyListener, awaited }
      listeners.add(one)
      return () => void listeners.delete(one)
    },
    async announce(event) {
      const waitedFor: Promise<void>[] = []
      for (const { type, listener, awaited } of [...listeners]) {
        if (type !== event.type && type !== '*') continue
        // In a promise of its own: a listener that throws must fail neither the request nor the listeners after it.
        const told = Promise.resolve(event).then(listener).catch(onListenerError)
        if (awaited) waitedFor.push(notLongerThan(MAX_WAIT_MS, told))
      }
      if (waitedFor.length > 0) await Promise.all(waitedFor)
    },
  }
}

async function notLongerThan(milliseconds: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const tooLong = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, milliseconds)
  })
  await Promise.race([work, tooLong])
  clearTimeout(timer)
}
