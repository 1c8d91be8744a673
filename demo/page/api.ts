import { Refusal, readRefusal } from './refusal.ts'
import { forgetTokens, readTokens, saveTokens, type Tokens } from './tokens.ts'

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

/** The two kinds of second factor, under the names that `jwt/totp/verify` gives them. */
export type CodeKind = 'otp_code' | 'backup_code'

type FirstStep =
  | { is_totp_enabled: false; access: string; refresh: string }
  | { is_totp_enabled: true; totp_challenge_token: string }
type SecondStep = Tokens & { backup_codes_remaining?: number }
type Body = Record<string, string>

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

    /** The first step. Null when it was enough, else the challenge token for `verify`. */
    async logIn(username: string, password: string): Promise<string | null> {
      const answer = await send<FirstStep>('POST', 'jwt/create/', { username, password })
      if (answer.is_totp_enabled) return answer.totp_challenge_token
      await adopt(answer)
      return null
    },

    /** The second step. How many backup codes are left when one was used, else null. */
    async verify(challengeToken: string, kind: CodeKind, code: string): Promise<number | null> {
      const answer = await send<SecondStep>('POST', 'jwt/totp/verify/', {
        totp_challenge_token: challengeToken,
        [kind]: code,
      })
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
    create: (code?: string) => authorized<Enrolment>('POST', 'totp/create/', inputCode(code)),
    confirm: (code: string) => authorized<{ backup_codes: string[] | null }>('POST', 'totp/confirm/', inputCode(code)),
    disable: (code?: string) => authorized<null>('POST', 'totp/disable/', inputCode(code)),
    rotateBackupCodes: (code?: string) =>
      authorized<{ backup_codes: string[] }>('POST', 'totp/rotate_backup_codes/', inputCode(code)),
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
