import { checkOptions, type OptionNames } from '../check-options.ts'
import type { UnixSeconds } from '../clock.ts'
import { TotpError } from '../errors.ts'
import type { By } from '../events.ts'
import { integerInRange } from '../policy.ts'
import type { UserRecord } from '../store/store.ts'
import { type Context, checkUserId } from './context.ts'
import { firstFactorOf, type Proof } from './proof.ts'
import { proveCode, typedCode } from './verify-code.ts'

/** In which session a code is typed. */
export interface CallerSession extends By {
  /** How this session began (RFC 8176 §2). Default `['pwd']`: with a password. */
  amr?: readonly string[] | undefined
}

/** Who is calling, as the host knows: from its session or token. */
export interface Caller extends CallerSession {
  /** The user's id, as you store it. Required. */
  id: string
  /** Shown in the authenticator app beside the issuer: an address or a user name, without a colon. */
  accountName: string
  /** When this session last proved a second factor, in Unix seconds. Default null: never. */
  verifiedAt?: UnixSeconds | null | undefined
  /**
   * The `generation` of that proof. It must be the user's current one, so that the proof ends with the next change of factors
   * or credentials. Default: `verifiedAt` is compared with the time of the change, which is as exact as the clocks of your
   * processes.
   */
  generation?: number | undefined
  /**
   * The session: the refresh family where `totp-kit/jwt` issued its tokens, otherwise your own id. It survives a change that
   * the user makes in it. Events name it as `sessionId`, and `sessions.ended` also as `keptSessionId`. Default: no session
   * survives.
   */
  sessionId?: string | null | undefined
  /** The heading in this user's authenticator app, where it differs by user or tenant. Default: the option `issuer`. */
  issuer?: string | undefined
}

/** What a host says when nobody is logged in. */
export type Nobody = null | undefined | false | ''

/**
 * Permission to change a user's factors. Every change requires one, and fails if the factors have changed since it was
 * given. A permit that was given while 2FA was off is therefore invalid once 2FA is on.
 */
export interface ChangePermit {
  readonly userId: string
  readonly user: UserRecord
  /** Of the code that was given with the request: it raises the caller's session. Null: none was given. */
  readonly proof: Proof | null
}

/**
 * Leave for a caller: 2FA is off, or the caller gives a code with the request, or proved one lately.
 *
 * @param inputCode - a code of the app or a backup code, as typed; judged, counted and spent like any other
 * @throws TotpError `unauthenticated`, `step_up_required`, and whatever {@link proveCode} refuses with
 */
export async function grantStepUp(
  ctx: Context,
  caller: Caller | Nobody,
  inputCode: string | undefined,
  now: UnixSeconds,
): Promise<ChangePermit> {
  if (!caller) throw new TotpError('unauthenticated')
  const { id: userId } = caller
  checkUserId(userId)
  const { stepUp } = ctx.policy
  const user = await ctx.store.getUser(userId)
  if (stepUp === false || user.confirmedAt === null) return { userId, user, proof: null }
  if (inputCode !== undefined) {
    const question = { userId, challenge: null, firstFactor: firstFactorOf(caller) }
    return { userId, user, proof: await proveCode(ctx, typedCode(inputCode), question, now) }
  }
  if (!isFresh(caller, user, stepUp.maxAgeSeconds, now)) {
    throw await stepUpRequired(ctx, userId, stepUp.maxAgeSeconds, now)
  }
  return { userId, user, proof: null }
}

/** Leave for the host itself: a support desk, an import, a flow of the host's own that has asked its own questions. */
export async function grantHost(ctx: Context, userId: string): Promise<ChangePermit> {
  checkUserId(userId)
  return { userId, user: await ctx.store.getUser(userId), proof: null }
}

/** How old a second factor may be. */
export interface Freshness {
  /** Seconds since the second factor was proved, 1 to 86,400. Required. */
  maxAgeSeconds: number
}

const FRESHNESS_NAMES: OptionNames<Freshness> = { maxAgeSeconds: true }

/** @throws TypeError for an unknown name; RangeError when the age is out of range */
export function checkFreshness(freshness: Freshness): void {
  checkOptions(freshness, FRESHNESS_NAMES)
  integerInRange('maxAgeSeconds', freshness.maxAgeSeconds, 1, 86_400)
}

/**
 * Passes when the caller proved a second factor at most `maxAgeSeconds` ago and the factors have not changed since.
 *
 * @throws TotpError `unauthenticated` for nobody; `second_factor_required` for a user who has none; `step_up_required`
 * (RFC 9470)
 */
export async function requireFresh(
  ctx: Context,
  caller: Caller | Nobody,
  freshness: Freshness,
  now: UnixSeconds,
): Promise<void> {
  checkFreshness(freshness)
  const { maxAgeSeconds } = freshness
  if (!caller) throw new TotpError('unauthenticated')
  checkUserId(caller.id)
  const user = await ctx.store.getUser(caller.id)
  if (user.confirmedAt === null) throw new TotpError('second_factor_required')
  if (!isFresh(caller, user, maxAgeSeconds, now)) throw await stepUpRequired(ctx, caller.id, maxAgeSeconds, now)
}

async function stepUpRequired(
  ctx: Context,
  userId: string,
  maxAgeSeconds: number,
  now: UnixSeconds,
): Promise<TotpError> {
  await ctx.announce({ type: 'step_up.refused', userId, at: now })
  return new TotpError('step_up_required', { maxAgeSeconds })
}

/** The refusal when the factors changed between a grant and its use. */
export async function outdatedPermit(ctx: Context, userId: string): Promise<TotpError> {
  const { confirmedAt } = await ctx.store.getUser(userId)
  const { stepUp } = ctx.policy
  if (confirmedAt === null) return new TotpError('totp_not_set_up')
  return new TotpError('step_up_required', stepUp ? { maxAgeSeconds: stepUp.maxAgeSeconds } : {})
}

function isFresh(caller: Caller, user: UserRecord, maxAgeSeconds: number, now: UnixSeconds): boolean {
  const { verifiedAt, generation } = caller
  if (verifiedAt === null || verifiedAt === undefined) return false
  // A proof of factors that have been replaced since proves nothing.
  const isCurrent = generation === undefined ? verifiedAt >= user.changedAt : generation === user.generation
  // One from the future is not one of ours, unless it was given in the second of the change.
  return isCurrent && verifiedAt >= now - maxAgeSeconds && verifiedAt <= Math.max(now, user.changedAt)
}
