import { Refusal, readRefusal } from './refusal.ts'
import { forgetTokens, readTokens, saveTokens, type Tokens } from './tokens.ts'
import { keepDeviceToken, readDeviceToken } from './trusted-device.ts'
import { type Challenge, forgetUnfinished } from './unfinished.ts'

export interface Me {
  id: string | number
  username: string
  email: string
  is_totp_enabled: boolean
  amr: string[]
  auth_time: string | number
}

/** What the server allows. The page knows none of these numbers by itself. */
export interface Policy {
  max_authenticators: number
  digits: number
  period: number
  /** How long a second factor counts as fresh; null: it is never asked for. */
  step_up_seconds: number | null
  /** Null: no device can be trusted. */
  trusted_device_days: number | null
  backup_codes_total: number
  backup_codes_viewable: boolean
}

export interface Status {
  is_totp_enabled: boolean
  confirmed_at: string | null
  backup_codes_remaining: number
  backup_codes_saved_at: string | null
  authenticators: { id: string; name: string | null; created_at: string; last_used_at: string | null }[]
  pending: { expires_in: number } | null
  trusted_devices: number
  locked_until: string | null
  policy: Policy
}

export interface Enrollment {
  svg: string
  uri: string
  secret: string
  expires_in: number
  digits: number
  issuer: string
  account_name: string
  /** The live authenticator that stops working when this one is confirmed. */
  replaces: { id: string; name: string | null } | null
}

export interface KeptCode {
  code: string
  used_at: string | null
}

export interface TrustedDevice {
  id: string
  name: string | null
  created_at: string
  last_used_at: string
  expires_at: string
  is_current: boolean
}

/** What the link of a recovery mail says. */
export interface RecoveryLink {
  uid: string
  token: string
  /** When it starts and when it stops working; null when the link does not say. */
  fromMs: number | null
  untilMs: number | null
  /** From a mail to another address of the user: it can only cancel the recovery. */
  onlyCancels: boolean
}

/** What a right password led to: a session, a challenge to answer, or a setup that has to come first. */
export type LoggedIn =
  | { next: 'account' }
  | { next: 'challenge'; challenge: Challenge }
  | { next: 'setup'; enrollmentToken: string }

/** The two kinds of second factor, under the names that the wire gives them. */
export type CodeKind = 'otp_code' | 'backup_code'

interface ChallengeAnswer {
  is_totp_enabled: true
  totp_challenge_token: string
  expires_in: number
  methods: string[]
  digits: number
  trusted_device_days: number | null
}
type FirstStep =
  | { is_totp_enabled: false; must_enroll?: never; access: string; refresh: string; trusted_device?: string }
  | { is_totp_enabled: false; must_enroll: true; enrollment_token: string }
  | ChallengeAnswer
type SecondStep = Tokens & { backup_codes_remaining?: number; trusted_device?: string }
/** Of a call that raised the session: the tokens that replace the ones before. */
type Raised = Partial<Tokens>
interface Confirmed extends Raised {
  /** Null when 2FA was on already: the codes stay. */
  backup_codes: string[] | null
}
type Body = Record<string, string | boolean>

export type Api = ReturnType<typeof createApi>

/** @param onSessionEnd - called with the username, where it is known, once the session cannot be kept alive */
export function createApi(onSessionEnd: (username: string) => void) {
  let refreshing: Promise<void> | null = null
  let username = ''
  let policy: Policy | null = null

  /** A call with the access token. An expired one is refreshed and the call repeated, once. */
  async function authorized<T>(method: string, path: string, body?: Body): Promise<T> {
    const before = readTokens()
    if (before === null) throw new Refusal('session_ended')
    try {
      return await send<T>(method, path, body, before.access)
    } catch (error) {
      if (!isStaleToken(error)) throw error
    }
    // Another call may have refreshed in the meantime: then its new token is the one to use.
    if (readTokens()?.access === before.access) await refreshOnce()
    const renewed = readTokens()
    if (renewed === null) throw new Refusal('session_ended')
    try {
      return await send<T>(method, path, body, renewed.access)
    } catch (error) {
      throw isStaleToken(error) ? endSession() : error
    }
  }

  /** A call that proves the second factor: it raises the session, and the new tokens replace the old ones. */
  async function raising<T extends Raised>(path: string, body: Body): Promise<T> {
    await refreshSettled()
    const answer = await authorized<T>('POST', path, body)
    const { access, refresh } = answer
    if (access !== undefined && refresh !== undefined && readTokens() !== null) saveTokens({ access, refresh })
    return answer
  }

  /** Never two at a time: a refresh token shown twice looks stolen, and the server then ends the whole family. */
  function refreshOnce(): Promise<void> {
    refreshing ??= refresh().finally(() => {
      refreshing = null
    })
    return refreshing
  }

  async function refresh(): Promise<void> {
    const tokens = readTokens()
    if (tokens === null) throw new Refusal('session_ended')
    try {
      saveTokens(await send<Tokens>('POST', 'jwt/refresh/', { refresh: tokens.refresh }))
    } catch (error) {
      // A server that is down or busy has not refused the token: the session may still be good.
      throw error instanceof Refusal && (error.status === 400 || error.status === 401) ? endSession() : error
    }
  }

  /** A refresh that ends later than a login or a logout must not overwrite the result of that. */
  async function refreshSettled(): Promise<void> {
    await refreshing?.catch(() => {})
  }

  function endSession(): Refusal {
    forgetTokens()
    forgetUnfinished()
    onSessionEnd(username)
    return new Refusal('session_ended')
  }

  /** Saves the tokens of a new login, and ends the session that was there before. */
  async function adopt(tokens: Tokens): Promise<void> {
    await refreshSettled()
    const replaced = readTokens()
    saveTokens(tokens)
    forgetUnfinished()
    if (replaced !== null) await send('POST', 'jwt/logout/', { refresh: replaced.refresh }).catch(() => {})
  }

  async function status(): Promise<Status> {
    const answer = await authorized<Status>('GET', 'totp/status/')
    policy = answer.policy
    return answer
  }

  return {
    isLoggedIn: () => readTokens() !== null,

    register: (account: { username: string; email: string; password: string }) => send('POST', 'register', account),

    /** The first step of a login. */
    async logIn(name: string, password: string): Promise<LoggedIn> {
      username = name
      const shown = readDeviceToken(name)
      const device: Body = shown === null ? {} : { trusted_device: shown }
      const answer = await send<FirstStep>('POST', 'jwt/create/', { username: name, password, ...device })
      // A token is good once: the answer has the next one, or the device is no longer trusted.
      if (shown !== null) keepDeviceToken(name, 'access' in answer ? (answer.trusted_device ?? null) : null)
      if (answer.is_totp_enabled) return { next: 'challenge', challenge: challengeOf(name, answer) }
      if (answer.must_enroll) return { next: 'setup', enrollmentToken: answer.enrollment_token }
      await adopt(answer)
      return { next: 'account' }
    },

    /**
     * The second step. How many backup codes are left when one was used, else null.
     *
     * @param deviceName - what this device is called, when it is to be trusted
     */
    async answerChallenge(challenge: Challenge, kind: CodeKind, code: string, deviceName: string | null) {
      const device: Body = deviceName === null ? {} : { trust_device: true, device_name: deviceName }
      const body = { totp_challenge_token: challenge.token, [kind]: code, ...device }
      const answer = await send<SecondStep>('POST', 'jwt/totp/verify/', body)
      if (deviceName !== null) keepDeviceToken(challenge.username, answer.trusted_device ?? null)
      await adopt(answer)
      return answer.backup_codes_remaining ?? null
    },

    /** Proves the second factor within the session, which is fresh from then on. */
    stepUp: (kind: CodeKind, code: string) => raising<Raised>('totp/verify/', { [kind]: code }),

    /** Logged out here in any case; false when the server was not reached, so that its tokens live until they expire. */
    async logOut(): Promise<boolean> {
      await refreshSettled()
      const tokens = readTokens()
      forgetTokens()
      forgetUnfinished()
      if (tokens === null) return true
      return send('POST', 'jwt/logout/', { refresh: tokens.refresh }).then(
        () => true,
        () => false,
      )
    },

    async me(): Promise<Me> {
      const answer = await authorized<Me>('GET', 'me')
      username = answer.username
      return answer
    },
    vault: () => authorized<{ secret: string }>('GET', 'vault'),
    status,
    policy: async (): Promise<Policy> => policy ?? (await status()).policy,
    keptCodes: () => authorized<{ backup_codes: KeptCode[] }>('GET', 'totp/backup_codes/'),
    /**
     * Begins an enrollment, or goes on with the one that this session began.
     *
     * @param enrollmentToken - of a user who is not logged in yet
     */
    create(given: { name?: string; startsOver?: boolean; enrollmentToken?: string | null } = {}): Promise<Enrollment> {
      const { name = '', startsOver = false, enrollmentToken = null } = given
      const body: Body = { ...(name === '' ? {} : { name }), ...(startsOver ? {} : { resume: true }) }
      if (enrollmentToken !== null) return send<Enrollment>('POST', 'totp/create/', body, enrollmentToken)
      return authorized<Enrollment>('POST', 'totp/create/', body)
    },
    /** With an enrollment token this is the login. */
    async confirm(code: string, enrollmentToken: string | null): Promise<Confirmed> {
      const body = { input_code: code }
      if (enrollmentToken === null) {
        const confirmed = await raising<Confirmed>('totp/confirm/', body)
        forgetUnfinished()
        return confirmed
      }
      const confirmed = await send<Confirmed>('POST', 'totp/confirm/', body, enrollmentToken)
      const { access, refresh } = confirmed
      if (access !== undefined && refresh !== undefined) await adopt({ access, refresh })
      return confirmed
    },
    disable: () => authorized<null>('POST', 'totp/disable/'),
    rotateBackupCodes: () => authorized<{ backup_codes: string[] }>('POST', 'totp/rotate_backup_codes/'),
    backupCodesSaved: () => authorized<null>('POST', 'totp/backup_codes_saved/'),
    renameAuthenticator: (id: string, name: string) =>
      authorized<unknown>('PATCH', `totp/authenticators/${encodeURIComponent(id)}/`, { name }),
    removeAuthenticator: (id: string) => authorized<null>('DELETE', `totp/authenticators/${encodeURIComponent(id)}/`),
    trustedDevices: () => authorized<{ trusted_devices: TrustedDevice[] }>('GET', 'totp/trusted_devices/'),
    removeTrustedDevice: (id: string) => authorized<null>('DELETE', `totp/trusted_devices/${encodeURIComponent(id)}/`),
    removeTrustedDevices: () => authorized<null>('DELETE', 'totp/trusted_devices/'),

    requestRecovery: (email: string) => send('POST', 'totp/recovery/', { email }),
    confirmRecovery: ({ uid, token }: RecoveryLink, password: string) =>
      send<null>('POST', 'totp/recovery_confirm/', { uid, token, password }),
    cancelRecovery: ({ uid, token }: RecoveryLink) => send<null>('POST', 'totp/recovery_cancel/', { uid, token }),
  }
}

function challengeOf(username: string, answer: ChallengeAnswer): Challenge {
  return {
    kind: 'challenge',
    token: answer.totp_challenge_token,
    username,
    expiresAtMs: Date.now() + answer.expires_in * 1000,
    digits: answer.digits,
    acceptsBackupCode: answer.methods.includes('backup_code'),
    trustedDeviceDays: answer.trusted_device_days,
  }
}

/** `step_up_required` and `invalid_credentials` are 401 too, but no refresh helps there: it never raises a session. */
function isStaleToken(error: unknown): boolean {
  return error instanceof Refusal && (error.code === 'invalid_token' || error.code === 'unauthenticated')
}

async function send<T>(method: string, path: string, body?: Body, access?: string): Promise<T> {
  const headers = new Headers({ Accept: 'application/json' })
  if (body !== undefined) headers.set('Content-Type', 'application/json')
  if (access !== undefined) headers.set('Authorization', `Bearer ${access}`)
  const response = await fetch(`/api/${path}`, {
    method,
    headers,
    body: body === undefined ? null : JSON.stringify(body),
    cache: 'no-store',
    credentials: 'omit',
  }).catch(() => {
    throw new Refusal('network_failed')
  })
  if (!response.ok) throw await readRefusal(response)
  if (response.status === 204) return null as T
  return (await response.json().catch(() => {
    throw new Refusal('network_failed')
  })) as T
}
