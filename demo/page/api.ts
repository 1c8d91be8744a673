import { Refusal, readRefusal } from './refusal.ts'
import { forgetTokens, readTokens, saveTokens, type Tokens } from './tokens.ts'
import { keepDeviceToken, readDeviceToken } from './trusted-device.ts'

export interface Me {
  id: string | number
  username: string
  email: string
  is_totp_enabled: boolean
  amr: string[]
  auth_time: string | number
}

export interface Status {
  is_totp_enabled: boolean
  confirmed_at: string | null
  backup_codes_remaining: number
  authenticators: { id: string; name: string | null; created_at: string; last_used_at: string | null }[]
  trusted_devices: number
  locked_until: string | null
}

export interface Enrolment {
  svg: string
  uri: string
  secret: string
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
}

/** What the link of a recovery mail says. */
export interface RecoveryLink {
  uid: string
  token: string
  /** From a mail to another address of the user: it can stop the recovery only. */
  onlyCancels: boolean
}

/** What a right password led to: a session, a challenge to answer, or a set-up that has to come first. */
export type LoggedIn = { next: 'account' } | { next: 'challenge'; token: string } | { next: 'setup'; token: string }

/** The two kinds of second factor, under the names that `jwt/totp/verify` gives them. */
export type CodeKind = 'otp_code' | 'backup_code'

type FirstStep =
  | { is_totp_enabled: false; must_enroll?: never; access: string; refresh: string; trusted_device?: string }
  | { is_totp_enabled: true; totp_challenge_token: string }
  | { is_totp_enabled: false; must_enroll: true; enrollment_token: string }
type SecondStep = Tokens & { backup_codes_remaining?: number; trusted_device?: string }
interface Confirmed {
  /** Null when 2FA was on already: the codes stay. */
  backup_codes: string[] | null
}
type Body = Record<string, string | boolean>

export type Api = ReturnType<typeof createApi>

/** @param onSessionEnd - called once the log-in cannot be kept alive any longer; the tokens are forgotten by then */
export function createApi(onSessionEnd: () => void) {
  let refreshing: Promise<void> | null = null

  /** A call with the access token. An expired one is refreshed and the call repeated, once. */
  async function authorized<T>(method: string, path: string, body?: Body): Promise<T> {
    const before = readTokens()
    if (before === null) throw new Refusal('session_ended')
    try {
      return await send<T>(method, path, body, before.access)
    } catch (error) {
      if (!isStaleToken(error)) throw error
    }
    // Another call may have refreshed while this one was on its way: then its new token is the one to take.
    if (readTokens()?.access === before.access) await refreshOnce()
    const renewed = readTokens()
    if (renewed === null) throw new Refusal('session_ended')
    try {
      return await send<T>(method, path, body, renewed.access)
    } catch (error) {
      throw isStaleToken(error) ? endSession() : error
    }
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
      // A server that is down or busy has not refused the token: the log-in may still be good.
      throw error instanceof Refusal && (error.status === 400 || error.status === 401) ? endSession() : error
    }
  }

  /** A refresh that ends later than a log-in or a log-out must not write its tokens over what came of that. */
  async function refreshSettled(): Promise<void> {
    await refreshing?.catch(() => {})
  }

  function endSession(): Refusal {
    forgetTokens()
    onSessionEnd()
    return new Refusal('session_ended')
  }

  /** Takes the tokens of a new log-in, and ends the one that it replaces when the person signed in again. */
  async function adopt(tokens: Tokens): Promise<void> {
    await refreshSettled()
    const replaced = readTokens()
    saveTokens(tokens)
    if (replaced !== null) await send('POST', 'jwt/logout/', { refresh: replaced.refresh }).catch(() => {})
  }

  return {
    isLoggedIn: () => readTokens() !== null,

    register: (account: { username: string; email: string; password: string }) => send('POST', 'register', account),

    /**
     * The first step of a log-in.
     *
     * @param provesAgain - true: the second factor is asked for on a trusted device too
     */
    async logIn(username: string, password: string, { provesAgain = false } = {}): Promise<LoggedIn> {
      const shown = provesAgain ? null : readDeviceToken(username)
      const device: Body = shown === null ? {} : { trusted_device: shown }
      const answer = await send<FirstStep>('POST', 'jwt/create/', { username, password, ...device })
      // A token is good once: the answer has the next one, or the device is trusted no more.
      if (shown !== null) keepDeviceToken(username, 'access' in answer ? (answer.trusted_device ?? null) : null)
      if (answer.is_totp_enabled) return { next: 'challenge', token: answer.totp_challenge_token }
      if (answer.must_enroll) return { next: 'setup', token: answer.enrollment_token }
      await adopt(answer)
      return { next: 'account' }
    },

    /**
     * The second step. How many backup codes are left when one was used, else null.
     *
     * @param trusted - whose device this is and what it is called, when it is to be trusted
     */
    async verify(
      challengeToken: string,
      kind: CodeKind,
      code: string,
      trusted: { username: string; deviceName: string } | null = null,
    ): Promise<number | null> {
      const device: Body = trusted === null ? {} : { trust_device: true, device_name: trusted.deviceName }
      const answer = await send<SecondStep>('POST', 'jwt/totp/verify/', {
        totp_challenge_token: challengeToken,
        [kind]: code,
        ...device,
      })
      if (trusted !== null) keepDeviceToken(trusted.username, answer.trusted_device ?? null)
      await adopt(answer)
      return answer.backup_codes_remaining ?? null
    },

    /** Logged out here whatever the server says; false when it could not be told, so that its tokens live on until they expire. */
    async logOut(): Promise<boolean> {
      await refreshSettled()
      const tokens = readTokens()
      forgetTokens()
      if (tokens === null) return true
      return send('POST', 'jwt/logout/', { refresh: tokens.refresh }).then(
        () => true,
        () => false,
      )
    },

    me: () => authorized<Me>('GET', 'me'),
    vault: () => authorized<{ secret: string }>('GET', 'vault'),
    status: () => authorized<Status>('GET', 'totp/status/'),
    keptCodes: () => authorized<{ backup_codes: KeptCode[] }>('GET', 'totp/backup_codes/'),
    /** @param name - what the person calls the authenticator; empty: nothing */
    create: (name: string, code?: string) =>
      authorized<Enrolment>('POST', 'totp/create/', { ...(name === '' ? {} : { name }), ...inputCode(code) }),
    confirm: (code: string) => authorized<Confirmed>('POST', 'totp/confirm/', inputCode(code)),
    /** The same for somebody who holds an enrolment token only. */
    createBeforeLogIn: (token: string) => send<Enrolment>('POST', 'totp/create/', {}, token),
    confirmBeforeLogIn: (token: string, code: string) =>
      send<Confirmed>('POST', 'totp/confirm/', inputCode(code), token),
    disable: (code?: string) => authorized<null>('POST', 'totp/disable/', inputCode(code)),
    rotateBackupCodes: (code?: string) =>
      authorized<{ backup_codes: string[] }>('POST', 'totp/rotate_backup_codes/', inputCode(code)),
    removeAuthenticator: (id: string, code?: string) =>
      authorized<null>('DELETE', `totp/authenticators/${encodeURIComponent(id)}/`, inputCode(code)),
    trustedDevices: () => authorized<{ trusted_devices: TrustedDevice[] }>('GET', 'totp/trusted_devices/'),
    removeTrustedDevice: (id: string, code?: string) =>
      authorized<null>('DELETE', `totp/trusted_devices/${encodeURIComponent(id)}/`, inputCode(code)),

    requestRecovery: (email: string) => send('POST', 'totp/recovery/', { email }),
    confirmRecovery: ({ uid, token }: RecoveryLink, password: string) =>
      send<null>('POST', 'totp/recovery_confirm/', { uid, token, password }),
    cancelRecovery: ({ uid, token }: RecoveryLink) => send<null>('POST', 'totp/recovery_cancel/', { uid, token }),
  }
}

function inputCode(code: string | undefined): Body {
  return code === undefined ? {} : { input_code: code }
}

/** `step_up_required` and `invalid_credentials` are 401 too, but no refresh helps there: it never raises a proof. */
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
