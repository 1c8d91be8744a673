import type { UnixSeconds } from '../clock.ts'
import type { Keyring } from './keyring.ts'

/** What a sealed token says. */
interface TokenClaims {
  /** Unique per token: what is burnt when the token is used. */
  id: string
  userId: string
  /** The user's generation when the token was made; the token dies when it moves on. */
  generation: number
  /** What else a token of this kind says; absent: nothing. */
  more?: string
}

/** Tokens of one kind. A token of another kind, or of another deployment, does not open. */
export interface TokenSealer {
  /** Good for this long after {@link TokenSealer.seal}. */
  ttlSeconds: number
  seal(claims: TokenClaims, at: UnixSeconds): string
  /** Null for a token that is not ours, altered, of another kind or too old: one answer for all. */
  open(token: string, at: UnixSeconds): (TokenClaims & { expiresAt: UnixSeconds }) | null
}

/** @param purpose - names the kind; the key is derived from it (HKDF, RFC 5869) */
export function tokenSealer(keyring: Keyring, purpose: string, ttlSeconds: number): TokenSealer {
  const ring = keyring.derive(purpose)
  return {
    ttlSeconds,
    seal: ({ id, userId, generation, more }, at) =>
      ring.seal(JSON.stringify(more === undefined ? [id, userId, generation] : [id, userId, generation, more]), at),
    open(token, at) {
      const opened = ring.open(token, { at, ttlSeconds })
      if (opened === null) return null
      const [id, userId, generation, more] = JSON.parse(opened.plaintext) as [string, string, number, string?]
      const claims = { id, userId, generation, expiresAt: opened.sealedAt + ttlSeconds }
      return more === undefined ? claims : { ...claims, more }
    },
  }
}
