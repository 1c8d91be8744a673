import type { UnixSeconds } from '../clock.ts'
import { TotpError } from '../errors.ts'
import type { SingleUse } from '../store/store.ts'
import { type Context, checkUserId, isActive, newId } from './context.ts'
import { firstFactorOf, type Proof } from './proof.ts'
import { proveCode, type TypedCode, typedCode } from './verify-code.ts'

/** How long after the first factor a login that delays have held up may be finished. */
const CHAIN_SECONDS = 30 * 60
/** How much longer than the wait a renewed challenge lives: time to type the code. */
const GRACE_SECONDS = 60

/** A token that says: this user has passed the first factor. Good for one success, for `challengeTokenSeconds`. */
export async function generateChallengeToken(ctx: Context, userId: string, now: UnixSeconds): Promise<string> {
  checkUserId(userId)
  const { generation } = await ctx.store.getUser(userId)
  return newChallenge(ctx, { userId, generation, amr: firstFactorOf({}) }, now)
}

/** A challenge for a user who has passed the first factor as `amr` says. */
export async function newChallenge(
  ctx: Context,
  { userId, generation, amr }: Pick<Challenge, 'userId' | 'generation' | 'amr'>,
  now: UnixSeconds,
): Promise<string> {
  await ctx.announce({ type: 'login.challenged', userId, at: now })
  const expiresAt = now + ctx.policy.challengeTokenSeconds
  return sealChallenge(ctx, { id: newId(ctx), userId, generation, provedAt: now, expiresAt, amr }, now)
}

/** What a challenge token says. `provedAt`: when the first factor was; `amr`: how. */
interface Challenge {
  id: string
  userId: string
  generation: number
  provedAt: UnixSeconds
  expiresAt: UnixSeconds
  amr: readonly string[]
}

function sealChallenge(
  { challengeTokens }: Context,
  { id, userId, generation, provedAt, expiresAt, amr }: Challenge,
  now: UnixSeconds,
): string {
  return challengeTokens.seal({ id, userId, generation, more: [provedAt, expiresAt, ...amr].join(' ') }, now)
}

/**
 * The user whom a challenge token names. Uses nothing up: the token is burnt by {@link answerChallenge}.
 *
 * @throws TotpError `challenge_invalid`: altered, expired, used, of another kind, or older than a change of factors
 */
export async function verifyChallengeToken(ctx: Context, token: string, now: UnixSeconds): Promise<string> {
  const { userId, challenge } = openChallenge(ctx, token, now)
  const { generation } = await ctx.store.getUser(userId)
  if (generation !== challenge.generation || !(await ctx.store.isTokenUnused(challenge.tokenId))) {
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
export async function getUserFromChallengeToken(ctx: Context, token: string, now: UnixSeconds): Promise<unknown> {
  if (ctx.findUser === undefined) throw new TypeError('getUserFromChallengeToken requires the findUser option')
  const user = await ctx.findUser(await verifyChallengeToken(ctx, token, now))
  if (!user) throw new TotpError('challenge_invalid')
  return user
}

/**
 * The second step of a login. The token and the code are spent together, by exactly one of any number of calls.
 *
 * @param familySeconds - a refresh token family of this lifetime begins in the same write; null: none
 * @throws TotpError `challenge_invalid`, also when `findUser` does not know the user any more; and whatever
 * {@link proveCode} refuses with
 */
export async function answerChallenge(
  ctx: Context,
  token: string,
  code: string | TypedCode,
  now: UnixSeconds,
  familySeconds: number | null = null,
): Promise<Proof> {
  const opened = openChallenge(ctx, token, now)
  const { userId, challenge, firstFactor } = opened
  if (!(await isActive(ctx, userId))) throw new TotpError('challenge_invalid')
  try {
    return await proveCode(ctx, typedCode(code), { userId, challenge, firstFactor, familySeconds }, now)
  } catch (error) {
    throw error instanceof TotpError ? withRenewedChallenge(ctx, opened.said, error, now) : error
  }
}

/**
 * The refusal, with a token that outlives the delay that it tells of: the right code afterwards must not be thrown back to
 * the password. The token is the same challenge: one success burns all.
 */
function withRenewedChallenge(ctx: Context, said: Challenge, refusal: TotpError, now: UnixSeconds): TotpError {
  const { code, retryAfterSeconds, attemptsLeft, clockOffsetSeconds } = refusal
  if (retryAfterSeconds === undefined || code === 'code_already_used' || code === 'unavailable') return refusal
  const retryAt = now + retryAfterSeconds
  const expiresAt = Math.max(said.expiresAt, Math.min(retryAt + GRACE_SECONDS, said.provedAt + CHAIN_SECONDS))
  if (expiresAt <= retryAt) return refusal
  const challengeToken = sealChallenge(ctx, { ...said, expiresAt }, now)
  const challengeExpiresIn = expiresAt - now
  return new TotpError(code, {
    retryAfterSeconds,
    attemptsLeft,
    clockOffsetSeconds,
    challengeToken,
    challengeExpiresIn,
  })
}

function openChallenge(ctx: Context, token: string, now: UnixSeconds) {
  const opened = ctx.challengeTokens.open(token, now)
  const [provedAt, expiresAt, ...amr] = (opened?.more ?? '').split(' ').filter(Boolean)
  if (opened === null || !(Number(expiresAt) >= now)) throw new TotpError('challenge_invalid')
  const { id, userId, generation } = opened
  const said: Challenge = { id, userId, generation, provedAt: Number(provedAt), expiresAt: Number(expiresAt), amr }
  // Burnt for as long as any token of this challenge may live, not only this one.
  const lastSecond = said.provedAt + longestChallengeSeconds(ctx.policy.challengeTokenSeconds)
  const challenge: SingleUse = { tokenId: id, generation, expiresAt: lastSecond }
  return { userId, challenge, firstFactor: amr, said }
}

/** From the first factor to the end of the last token of its challenge. */
export function longestChallengeSeconds(challengeTokenSeconds: number): number {
  return Math.max(challengeTokenSeconds, CHAIN_SECONDS)
}
