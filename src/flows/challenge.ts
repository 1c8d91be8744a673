import type { UnixSeconds } from '../clock.ts'
import { TotpError } from '../errors.ts'
import type { SecondFactorMethod } from '../events.ts'
import type { SingleUse, UserRecord } from '../store/store.ts'
import { announceChange } from './changes.ts'
import { type Context, checkUserId, isActive, newId } from './context.ts'
import { mustEnroll, sealEnrollmentToken } from './enforcement.ts'
import { firstFactorOf, makeProof, type Proof, proveCode, type TypedCode, typedCode } from './proof.ts'
import { recognizeDevice } from './trusted-devices.ts'

/** What comes after the first factor; told apart by `status`. */
export type LoginStart =
  /** Done. `trustedDevice`: the device's new token, when an old one has saved the user the code; otherwise null. */
  | { status: 'complete'; proof: Proof; trustedDevice: string | null }
  /** The challenge is to be answered with a code, within `expiresIn` seconds; `digits`: how many a TOTP code has. */
  | {
      status: 'challenge'
      challengeToken: string
      expiresIn: number
      methods: readonly SecondFactorMethod[]
      digits: number
    }
  /** The user must have a second factor and has none: the token opens enrollment and nothing else, for `expiresIn` seconds. */
  | { status: 'enrollment_required'; enrollmentToken: string; expiresIn: number }

/** What a host may tell of a login. */
export interface FirstFactor {
  /**
   * How the first factor was proved (RFC 8176 §2): `['pwd']` (the default), `['hwk']`, `['fed']` … `mfa` and `otp` are
   * left out: they say that we have seen a second factor.
   */
  amr?: readonly string[] | undefined
  /** The token of a trusted device, when the client showed one. */
  trustedDevice?: string | undefined
}

const PASSWORD = ['pwd']
const METHODS = ['totp', 'backup_code'] as const

/** How long after the first factor a login that delays have held up may be finished. */
const CHAIN_SECONDS = 30 * 60
/** How much longer than the wait a renewed challenge lives: time to type the code. */
const GRACE_SECONDS = 60

/** The first factor is right, says the host: what next? */
export async function startLogin(ctx: Context, userId: string, firstFactor: FirstFactor = {}): Promise<LoginStart> {
  checkUserId(userId)
  const { trustedDevice } = firstFactor
  const amr = firstFactorOf(firstFactor)
  const user = await ctx.store.getUser(userId)
  const { confirmedAt, generation } = user
  if (confirmedAt === null) {
    if (await mustEnroll(ctx, userId)) {
      const enrollmentToken = await sealEnrollmentToken(ctx, userId, generation)
      return { status: 'enrollment_required', enrollmentToken, expiresIn: ctx.policy.pendingEnrollmentSeconds }
    }
    const proof = firstFactorProof(ctx, { userId, method: 'first_factor', amr }, user)
    return { status: 'complete', proof, trustedDevice: null }
  }
  const device = trustedDevice === undefined ? null : await recognizeDevice(ctx, userId, trustedDevice)
  if (device === null) {
    const { challengeTokenSeconds: expiresIn, totp } = ctx.policy
    const challengeToken = await newChallenge(ctx, userId, generation, amr)
    return { status: 'challenge', challengeToken, expiresIn, methods: METHODS, digits: totp.digits }
  }
  const proof = firstFactorProof(
    ctx,
    { userId, method: 'trusted_device', amr },
    { ...user, generation: device.generation },
  )
  return { status: 'complete', proof, trustedDevice: device.token }
}

/** A proof that claims no second factor: `amr` says what the host vouched for, and step-up is still asked. */
function firstFactorProof(
  ctx: Context,
  given: { userId: string; method: 'first_factor' | 'trusted_device'; amr: readonly string[] },
  user: UserRecord,
): Proof {
  return makeProof(ctx, { ...given, backupCodesRemaining: null }, user, ctx.clock())
}

/** A token that says: this user has passed the first factor. Good for one success, for `challengeTokenSeconds`. */
export async function generateChallengeToken(ctx: Context, userId: string): Promise<string> {
  checkUserId(userId)
  return newChallenge(ctx, userId, (await ctx.store.getUser(userId)).generation, PASSWORD)
}

async function newChallenge(ctx: Context, userId: string, generation: number, amr: readonly string[]): Promise<string> {
  const now = ctx.clock()
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
export async function verifyChallengeToken(ctx: Context, token: string): Promise<string> {
  const { userId, challenge } = openChallenge(ctx, token, ctx.clock())
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
export async function getUserFromChallengeToken(ctx: Context, token: string): Promise<unknown> {
  if (ctx.findUser === undefined) throw new TypeError('getUserFromChallengeToken requires the findUser option')
  const user = await ctx.findUser(await verifyChallengeToken(ctx, token))
  if (!user) throw new TotpError('challenge_invalid')
  return user
}

/**
 * The second step of a login. The token and the code are spent together, by exactly one of any number of calls.
 *
 * @throws TotpError `challenge_invalid`, also when `findUser` does not know the user any more; and whatever
 * {@link proveCode} refuses with
 */
export async function answerChallenge(ctx: Context, token: string, code: string | TypedCode): Promise<Proof> {
  const now = ctx.clock()
  const opened = openChallenge(ctx, token, now)
  const { userId, challenge, firstFactor } = opened
  if (!(await isActive(ctx, userId))) throw new TotpError('challenge_invalid')
  try {
    return await proveCode(ctx, typedCode(code), { userId, challenge, firstFactor })
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
  return new TotpError(code, { retryAfterSeconds, attemptsLeft, clockOffsetSeconds, challengeToken })
}

/**
 * Ends open challenges, recovery links, trusted devices, refresh families and earlier proofs of a user whose password or
 * e-mail address changed.
 */
export async function credentialsChanged(ctx: Context, userId: string): Promise<void> {
  checkUserId(userId)
  const at = ctx.clock()
  await ctx.store.raiseGeneration(userId, at)
  await announceChange(ctx, null, { type: 'credentials.changed', userId, at })
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
