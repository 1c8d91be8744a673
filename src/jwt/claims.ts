import type { UnixSeconds } from '../clock.ts'

/** The claims of a token, by their names in RFC 7519 and the registry of claims; `gen` and `token_type` are ours. */
export type JwtClaims = {
  /** Which of the two tokens of a pair it is. */
  token_type: 'access' | 'refresh'
  /** The service's `issuer`. */
  iss: string
  /** The user's id. */
  sub: string
  /** Unique per token. */
  jti: string
  /** The refresh token family. */
  sid: string
  /** When the token was issued. */
  iat: UnixSeconds
  /** The second in which it expires. */
  exp: UnixSeconds
  /** When the user was last authenticated. */
  auth_time: UnixSeconds
  /** RFC 8176 §2. */
  amr: string[]
  /** `aal2` when `amr` contains `mfa`. */
  acr: 'aal1' | 'aal2'
  /** The user's generation when the token was made. */
  gen: number
}

export type TokenKind = JwtClaims['token_type']

/** The same in the words of this library. */
export interface Claims {
  userId: string
  tokenId: string
  familyId: string
  amr: readonly string[]
  authTime: UnixSeconds
  issuedAt: UnixSeconds
  generation: number
}

/** @param token - `seconds`: how long it lives from `issuedAt` */
export function writeClaims(
  { userId, tokenId, familyId, amr, authTime, issuedAt, generation }: Claims,
  token: { kind: TokenKind; issuer: string; seconds: number },
): JwtClaims {
  return {
    token_type: token.kind,
    sid: familyId,
    amr: [...amr],
    auth_time: authTime,
    gen: generation,
    acr: amr.includes('mfa') ? 'aal2' : 'aal1',
    iss: token.issuer,
    sub: userId,
    jti: tokenId,
    iat: issuedAt,
    exp: issuedAt + token.seconds,
  }
}

/**
 * Null unless `payload` holds every claim, each of its type, and is of that kind, of that issuer and valid at `now`.
 * The signature is checked elsewhere, and nothing else is: whoever checked it may have read no claim (RFC 8725 §3.8–3.12).
 */
export function readClaims(
  payload: unknown,
  { kind, issuer, now }: { kind: TokenKind; issuer: string; now: UnixSeconds },
): Claims | null {
  if (typeof payload !== 'object' || payload === null) return null
  const { token_type, iss, sub, jti, sid, amr, gen, auth_time, iat, exp, nbf } = payload as Record<string, unknown>
  if (token_type !== kind || iss !== issuer) return null
  // RFC 7519 §4.1.4, §4.1.5: expired at `exp`, valid from `nbf` on.
  if (!isTime(exp) || exp <= now) return null
  if (nbf !== undefined && !(isTime(nbf) && nbf <= now)) return null
  if (!isText(sub) || !isText(jti) || !isText(sid) || !isTime(iat) || !isTime(auth_time)) return null
  if (!Number.isSafeInteger(gen) || !Array.isArray(amr) || !amr.every(isText)) return null
  const generation = gen as number
  return { userId: sub, tokenId: jti, familyId: sid, amr, authTime: auth_time, issuedAt: iat, generation }
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}

function isTime(value: unknown): value is UnixSeconds {
  return typeof value === 'number' && Number.isFinite(value)
}
