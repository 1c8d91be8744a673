import { checkOptions, type OptionNames } from '../check-options.ts'
import type { UnixSeconds } from '../clock.ts'
import type { Totp } from '../create-totp.ts'
import { TotpError } from '../errors.ts'
import { contextOf, isActive, newId } from '../flows/context.ts'
import { checkProof, type Proof, takeFamily } from '../flows/proof.ts'
import { integerInRange } from '../policy.ts'
import { type Claims, type JwtClaims, readClaims, type TokenKind, writeClaims } from './claims.ts'
import { hostSigner, keySigner } from './signer.ts'

export type { JwtClaims } from './claims.ts'

/** The options of {@link jwtTokens}. */
export interface JwtOptions {
  /**
   * Checks the first factor. Returns the user's id, or null for a wrong password, an unknown user and a user who may not log
   * in; it should take the same time in all these cases. Required. Return the id as you store it, never what was typed: ids
   * are compared byte for byte, and a user `ANN` has no second factor because `ann` has one.
   */
  authenticate: (username: string, password: string) => Promise<string | null>
  /**
   * Lifetime of an access token in seconds, 30 to 86,400. Default 300, as in djangorestframework-simplejwt: nothing revokes
   * an access token before it expires.
   */
  accessTokenSeconds?: number | undefined
  /** Lifetime of a refresh token in seconds, 60 to 7,776,000. Default 86,400. It restarts with each refresh. */
  refreshTokenSeconds?: number | undefined
  /**
   * Signs tokens with a key of yours, so that services that hold the public key can verify them: RS256, EdDSA, a key
   * management service. Requires `verify`. It may add claims and must keep those that it receives. A token consists of
   * letters, digits, `.`, `-` and `_`, as a compact JWT does, and has at most 4,096 characters. Default: HS256 with a key that is
   * derived from the encryption key.
   */
  sign?: ((claims: JwtClaims) => string | Promise<string>) | undefined
  /**
   * Returns the claims of a token that `sign` made; for any other, null or an exception, and the token is refused. Must check
   * the signature, with a fixed algorithm. Kind, issuer, expiry and the types of the claims are checked here, whatever it
   * returns. Default: that of the derived key.
   */
  verify?: ((token: string) => object | null | Promise<object | null>) | undefined
}

const JWT_OPTIONS: OptionNames<JwtOptions> = {
  authenticate: true,
  accessTokenSeconds: true,
  refreshTokenSeconds: true,
  sign: true,
  verify: true,
}

/** An access token and the refresh token that belongs to it. */
export interface TokenPair {
  /** A JWT for the header `Authorization: Bearer …`. */
  access: string
  /** A JWT that `refreshTokens` exchanges for a new pair, once. */
  refresh: string
}

/** What an access token says of its bearer; spread it into the caller that the adapter asks for. */
export interface AccessTokenClaims {
  /** The user's id: the claim `sub`. */
  id: string
  /** How the session began and what was proved since (RFC 8176 §2). */
  amr: readonly string[]
  /** When the user logged in, with all factors that `amr` names; a refresh does not change it. */
  authTime: UnixSeconds
  /** `authTime` when a second factor was among them, otherwise null. */
  verifiedAt: UnixSeconds | null
  /** The user's when the token was made: after a change of factors or credentials it passes no step-up. */
  generation: number
  /** The refresh family that the token belongs to. */
  sessionId: string
}

/** Token pairs for hosts that want login endpoints: a short-lived access token and a rotating refresh token. `now`: the time of the request; default: the clock. */
export interface JwtTokens {
  /** The option of the same name. */
  authenticate: JwtOptions['authenticate']
  /** Seconds for which a refresh token is valid: the option of the same name. */
  readonly refreshTokenSeconds: number
  /** Begins a family. @throws TypeError when `proof` was not made by this library */
  issueTokens(proof: Proof, now?: UnixSeconds): Promise<TokenPair>
  /**
   * New tokens for a session that has proved a second factor: the family goes on with a new `auth_time` and `amr`, and its
   * earlier refresh token is dead. Null when the family is not alive any more, or the factors have changed since.
   *
   * @param sessionId - the family, as {@link AccessTokenClaims.sessionId} names it
   * @throws TypeError when `proof` was not made by this service, or is of a first factor only
   */
  raiseSession(proof: Proof, sessionId: string, now?: UnixSeconds): Promise<TokenPair | null>
  /** The old token is dead; presented again, its family ends. @throws TotpError `invalid_token` */
  refreshTokens(refresh: string, now?: UnixSeconds): Promise<TokenPair>
  /** Passes for a living access or refresh token of a user who may log in. @throws TotpError `invalid_token` */
  verifyToken(token: string, now?: UnixSeconds): Promise<void>
  /** Ends the family of a refresh token, dead or alive. @throws TotpError `invalid_token` when it is not one of ours */
  logout(refresh: string, now?: UnixSeconds): Promise<void>
  /** Reads `Bearer …`; null for no header, another scheme, and a token that is not a valid access token of ours. */
  verifyAccessToken(header: string | undefined): Promise<AccessTokenClaims | null>
}

/**
 * The token-pair module. Signs with HMAC-SHA-256 under a key derived from the first encryption key; the others still
 * verify, so keys can be rotated while people are logged in. With `sign` and `verify`, the host's keys are used instead.
 *
 * @example
 * ```ts
 * import { jwtTokens } from 'totp-kit/jwt'
 *
 * const tokens = jwtTokens(totp, {
 *   authenticate: async (username, password) => (username === 'ada' && password === 'correct horse' ? '42' : null),
 * })
 * const bearer = await tokens.verifyAccessToken('Bearer …')
 * ```
 *
 * @throws TypeError for an unknown option, and when `sign` is given without `verify`, or `verify` without `sign`; RangeError when
 * a lifetime is outside its range
 */
export function jwtTokens(totp: Totp, options: JwtOptions): JwtTokens {
  checkOptions(options, JWT_OPTIONS)
  const ctx = contextOf(totp)
  const lifetimes = {
    access: integerInRange('accessTokenSeconds', options.accessTokenSeconds ?? 300, 30, 86_400),
    refresh: integerInRange('refreshTokenSeconds', options.refreshTokenSeconds ?? 86_400, 60, 7_776_000),
  }
  const { issuer } = ctx.policy
  // The claim and the key both name the service: RFC 8725 §3.8, for services that share an encryption key.
  const signer = hostSigner(options) ?? keySigner(ctx.keyring.deriveMacKeys(`jwt/${issuer}`))

  const sign = async (kind: TokenKind, claims: Omit<Claims, 'issuedAt'>, now: UnixSeconds): Promise<string> =>
    signer.sign(writeClaims({ ...claims, issuedAt: now }, { kind, issuer, seconds: lifetimes[kind] }))

  const signPair = async (claims: Omit<Claims, 'issuedAt'>, now: UnixSeconds): Promise<TokenPair> => {
    const [access, refresh] = await Promise.all([
      sign('access', { ...claims, tokenId: newId(ctx) }, now),
      sign('refresh', claims, now),
    ])
    return { access, refresh }
  }

  /** Null when the token is not a valid one of that kind: altered, expired, of another kind, of another service. */
  const open = async (kind: TokenKind, token: string, now: UnixSeconds): Promise<Claims | null> =>
    readClaims(await signer.verify(kind, token), { kind, issuer, now })

  const openRefresh = async (token: string, now: UnixSeconds): Promise<Claims> => {
    const claims = await open('refresh', token, now)
    if (claims === null) throw new TotpError('invalid_token')
    return claims
  }

  /**
   * Whether a refused refresh token says that somebody has a copy of it: neither a change of the factors nor a logout with
   * this very token has ended it, and it is the first one that was refused of its family, so that whoever has an old token
   * cannot send its owner a mail each time.
   */
  const isReuse = async ({ userId, tokenId, familyId, issuedAt }: Claims, now: UnixSeconds): Promise<boolean> => {
    const { changedAt } = await ctx.store.getUser(userId)
    if (changedAt !== null && issuedAt <= changedAt) return false
    if (!(await ctx.store.isTokenUnused(tokenId))) return false
    return ctx.store.consumeToken({ tokenId: familyId, expiresAt: now + lifetimes.refresh }, now)
  }

  const openFamily = async (userId: string, generation: number, now: UnixSeconds) => {
    const family = { id: newId(ctx), userId, tokenId: newId(ctx), expiresAt: now + lifetimes.refresh }
    await ctx.store.openFamily(family, generation, now)
    return family
  }

  return {
    authenticate: options.authenticate,
    refreshTokenSeconds: lifetimes.refresh,

    async issueTokens(proof, now = ctx.clock()) {
      checkProof(ctx, proof)
      const { userId, amr, verifiedAt: authTime, generation } = proof
      const { id: familyId, tokenId } = takeFamily(proof) ?? (await openFamily(userId, generation, now))
      return signPair({ userId, amr, authTime, generation, tokenId, familyId }, now)
    },

    async raiseSession(proof, familyId, now = ctx.clock()) {
      checkProof(ctx, proof)
      const { userId, amr, method, verifiedAt: authTime, generation } = proof
      if (method !== 'totp' && method !== 'backup_code') {
        throw new TypeError('raiseSession requires a Proof of a second factor')
      }
      const tokenId = newId(ctx)
      const expiresAt = now + lifetimes.refresh
      const raising = { familyId, userId, newTokenId: tokenId, expiresAt, generation, now }
      if (!(await ctx.store.raiseFamily(raising))) return null
      return signPair({ userId, amr, authTime, generation, tokenId, familyId }, now)
    },

    async refreshTokens(refresh, now = ctx.clock()) {
      const claims = await openRefresh(refresh, now)
      if (!(await isActive(ctx, claims.userId))) throw new TotpError('invalid_token')
      // Before the rotation: a change that comes in between leaves the new access token with the generation of before.
      const { generation } = await ctx.store.getUser(claims.userId)
      const newTokenId = newId(ctx)
      const { familyId, tokenId } = claims
      const rotation = { familyId, tokenId, newTokenId, expiresAt: now + lifetimes.refresh, now }
      if ((await ctx.store.rotateFamily(rotation)) === 'dead') {
        await ctx.announce({
          type: 'tokens.refused',
          userId: claims.userId,
          reused: await isReuse(claims, now),
          sessionId: familyId,
          at: now,
        })
        throw new TotpError('invalid_token')
      }
      return signPair({ ...claims, generation, tokenId: newTokenId }, now)
    },

    async verifyToken(token, now = ctx.clock()) {
      const access = await open('access', token, now)
      const { userId, familyId, tokenId } = access ?? (await openRefresh(token, now))
      if (!(await isActive(ctx, userId))) throw new TotpError('invalid_token')
      const alive = await ctx.store.isFamilyAlive(familyId, access ? null : tokenId, now)
      if (!alive) throw new TotpError('invalid_token')
    },

    async logout(refresh, now = ctx.clock()) {
      const { familyId, tokenId } = await openRefresh(refresh, now)
      await ctx.store.endFamily(familyId)
      await ctx.store.consumeToken({ tokenId, expiresAt: now + lifetimes.refresh }, now)
    },

    async verifyAccessToken(header) {
      const [, token] = header?.match(/^Bearer +([\w.-]+) *$/i) ?? []
      const claims = token === undefined ? null : await open('access', token, ctx.clock())
      if (claims === null) return null
      const { userId: id, amr, authTime, generation, familyId: sessionId } = claims
      // `mfa` is a word of ours only: no first factor brings it along.
      return { id, amr, authTime, verifiedAt: amr.includes('mfa') ? authTime : null, generation, sessionId }
    },
  }
}
