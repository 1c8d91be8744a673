import type { KeyObject } from 'node:crypto'
import { hs256 } from '../crypto/hs256.ts'
import type { JwtClaims, TokenKind } from './claims.ts'

/** Signs and verifies tokens. The claims that `verify` returns are signed and not checked yet. */
export interface Signer {
  sign(claims: JwtClaims): string | Promise<string>
  verify(kind: TokenKind, token: string): unknown
}

/**
 * One exact header per kind. `typ` tells the kinds apart where only the header is read (RFC 8725 §3.11); `at+jwt` is
 * RFC 9068 §2.1.
 */
const HEADERS: Readonly<Record<TokenKind, string>> = {
  access: '{"alg":"HS256","typ":"at+jwt"}',
  refresh: '{"alg":"HS256","typ":"rt+jwt"}',
}

/** Synchronous, without a job of the thread pool: every call of a host verifies a token. */
export function keySigner(keys: readonly KeyObject[]): Signer {
  const kinds = { access: hs256(HEADERS.access, keys), refresh: hs256(HEADERS.refresh, keys) }
  return {
    sign: (claims) => kinds[claims.token_type].sign(JSON.stringify(claims)),
    verify(kind, token) {
      const payload = kinds[kind].open(token)
      return payload === null ? null : parse(payload)
    },
  }
}

/**
 * Null when the host signs nothing.
 *
 * @throws TypeError when one of the two functions is missing
 */
export function hostSigner({
  sign,
  verify,
}: {
  sign?: Signer['sign'] | undefined
  verify?: ((token: string) => object | null | Promise<object | null>) | undefined
}): Signer | null {
  if (sign === undefined && verify === undefined) return null
  if (typeof sign !== 'function' || typeof verify !== 'function') {
    throw new TypeError('sign and verify must both be functions, or both be absent')
  }
  return {
    sign,
    async verify(_kind, token) {
      try {
        return await verify(token)
      } catch {
        // Libraries throw for a bad signature, so an exception cannot be told from one.
        return null
      }
    },
  }
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    return null
  }
}
