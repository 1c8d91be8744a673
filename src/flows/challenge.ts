import type { UnixSeconds } from '../clock.ts'
import { TotpError } from '../errors.ts'
import type { SingleUse } from '../store/store.ts'
import { type Context, checkUserId, newId } from './context.ts'
import { makeProof, type Proof, proveCode, type TypedCode } from './proof.ts'

/** After the first factor: either done, or a challenge to be answered with a code. */
export type LoginStart = { isTotpEnabled: false; proof: Proof } | { isTotpEnabled: true; challengeToken: string }

const FIRST_FACTOR = ['pwd']

/** The first factor is right, says the host: what next? */
export async function startLogin(ctx: Context, userId: string): Promise<LoginStart> {
  checkUserId(userId)
  const { confirmedAt, generation } = await ctx.store.getUser(userId)
  if (confirmedAt !== null) return { isTotpEnabled: true, challengeToken: sealChallenge(ctx, userId, generation) }
  const verifiedAt = ctx.clock()
  const proof = { userId, method: 'first_factor', amr: FIRST_FACTOR, verifiedAt, backupCodesRemaining: null } as const
  return { isTotpEnabled: false, proof: makeProof(proof, generation) }
}

/** A token that says: this user has passed the first factor. Good for one success, for `challengeSeconds`. */
export async function generateChallengeToken(ctx: Context, userId: string): Promise<string> {
  checkUserId(userId)
  return sealChallenge(ctx, userId, (await ctx.store.getUser(userId)).generation)
}

function sealChallenge(ctx: Context, userId: string, generation: number): string {
  return ctx.challengeTokens.seal({ id: newId(ctx), userId, generation }, ctx.clock())
}

/**
 * The user whom a challenge token names. Uses nothing up: the token is burnt by {@link answerChallenge}.
 *
 * @throws TotpError `challenge_invalid`: altered, expired, used, of another kind, or older than a change of factors
 */
export async function verifyChallengeToken(ctx: Context, token: string): Promise<string> {
  const { userId, challenge } = openChallenge(ctx, token, ctx.clock())
  const { generation } = await ctx.store.getUser(userId)
  if (generation !== challenge.generation || !(await ctx.store.isUnburnt(challenge.tokenId))) {
    throw new TotpError('challenge_invalid')
  }
  return userId
}

/**
 * The host's user whom a challenge token names.
 *
 * @throws TypeError when the host gave no `findUser`
 * @throws TotpError `challenge_invalid`, also when `findUser` does not know the user any more
 */
export async function getUserFromChallengeToken(ctx: Context, token: string): Promise<unknown> {
  if (ctx.findUser === undefined) throw new TypeError('getUserFromChallengeToken needs the option findUser')
  const user = await ctx.findUser(await verifyChallengeToken(ctx, token))
  if (user === null || user === undefined) throw new TotpError('challenge_invalid')
  return user
}

/**
 * The second step of a login. The token and the code are spent together, by exactly one of any number of calls.
 *
 * @throws TotpError `challenge_invalid`, also when `findUser` does not know the user any more; and whatever
 * {@link proveCode} refuses with
 */
export async function answerChallenge(ctx: Context, token: string, typed: TypedCode): Promise<Proof> {
  const { userId, challenge } = openChallenge(ctx, token, ctx.clock())
  await checkActive(ctx, userId, 'challenge_invalid')
  return proveCode(ctx, typed, { userId, challenge, firstFactor: FIRST_FACTOR })
}

/** Refuses with `code` when the host's `findUser`, if it gave one, does not know the user any more. */
export async function checkActive(ctx: Context, userId: string, code: TotpError['code']): Promise<void> {
  if (ctx.findUser === undefined) return
  const user = await ctx.findUser(userId)
  if (user === null || user === undefined) throw new TotpError(code)
}

/** Ends open challenges, refresh families and earlier proofs of a user whose password or e-mail address changed. */
export async function credentialsChanged(ctx: Context, userId: string): Promise<void> {
  checkUserId(userId)
  const at = ctx.clock()
  await ctx.store.raiseGeneration(userId, at)
  ctx.announce({ type: 'credentials.changed', userId, at })
}

function openChallenge(ctx: Context, token: string, now: UnixSeconds): { userId: string; challenge: SingleUse } {
  const opened = ctx.challengeTokens.open(token, now)
  if (opened === null) throw new TotpError('challenge_invalid')
  const { id, userId, generation, expiresAt } = opened
  return { userId, challenge: { tokenId: id, generation, expiresAt } }
}
