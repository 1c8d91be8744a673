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

/** Tokens of one kind. A token of another kind, of another service or under another key does not open. */
export interface TokenSealer {
  /** Good for this long after {@link TokenSealer.seal}. */
  ttlSeconds: number
  seal(claims: TokenClaims, at: UnixSeconds): string
  /** Null for a token that is not ours, altered, of another kind or too old: one answer for all. */
  open(token: string, at: UnixSeconds): (TokenClaims & { expiresAt: UnixSeconds }) | null
}

/**
 * @param kind - of token, a word of ours without a slash
 * @param issuer - the service; with `kind` it separates the derived keys (HKDF, RFC 5869), so that two services that
 * share an encryption key do not accept each other's tokens
 */
export function tokenSealer(
  keyring: Keyring,
  { kind, issuer }: { kind: string; issuer: string },
  ttlSeconds: number,
): TokenSealer {
  const ring = keyring.derive(`${kind}/${issuer}`)
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
