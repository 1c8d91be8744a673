import type { UnixSeconds } from '../clock.ts'
import { TotpError } from '../errors.ts'
import { type Context, type EnforcementRule, newId } from './context.ts'
import type { Caller } from './step-up.ts'

/** In seconds the year 5138, in milliseconds 1973: no moment that a rule means. */
const MAX_UNIX_SECONDS = 1e11

/** A caller who holds an enrollment token. `enrollmentId`: the token's; until the login it stands for the session. */
export interface EnrollingCaller extends Caller {
  enrollmentId: string
}

/** What a policy would do to users as they are now. */
export interface EnforcementForecast {
  /** Users that `findUser` found. */
  users: number
  /** Users who have a second factor. */
  enabled: number
  /** Must have a second factor by a moment that has not come, and have none: they are asked. */
  asked: number
  /** Must have one now, and have none: the next log-in opens enrollment and nothing else. */
  shutOut: number
}

/** Whether this user, who has no second factor, gets no further than enrollment. */
export async function mustEnroll(ctx: Context, userId: string, now: UnixSeconds): Promise<boolean> {
  const { enforcement, findUser } = ctx
  if (enforcement === undefined || findUser === undefined) return false
  const user = await findUser(userId)
  // A user who is gone is not let in for want of a rule.
  if (!user) return true
  return isDue(await enforcement.required(user), now)
}

/** A token that opens enrollment and nothing else, until the enrollment is confirmed or given up. */
export async function sealEnrollmentToken(
  ctx: Context,
  userId: string,
  generation: number,
  now: UnixSeconds,
): Promise<string> {
  await ctx.announce({ type: 'enrollment.required', userId, at: now })
  return ctx.enrollmentTokens.seal({ id: newId(ctx), userId, generation }, now)
}

/**
 * The caller whom an enrollment token names, for the endpoints of enrollment only.
 *
 * @param authorization - the header, `Bearer …`; null when it holds no such token, or one older than a change of factors
 */
export async function enrollmentCaller(
  ctx: Context,
  authorization: string | undefined,
  now: UnixSeconds,
): Promise<EnrollingCaller | null> {
  const [, token] = authorization?.match(/^Bearer +([\w=-]+) *$/i) ?? []
  return token === undefined ? null : openEnrollmentToken(ctx, token, now)
}

/**
 * The user whom an enrollment token names. Uses nothing up: the token ends when the enrollment is confirmed.
 *
 * @throws TotpError `unauthenticated`: altered, expired, of another kind, or older than a change of factors; also when
 * `findUser` does not know the user any more, or the option `enforcement` is not given
 */
export async function verifyEnrollmentToken(ctx: Context, token: string, now: UnixSeconds): Promise<string> {
  const caller = await openEnrollmentToken(ctx, token, now)
  if (caller === null) throw new TotpError('unauthenticated')
  return caller.id
}

async function openEnrollmentToken(ctx: Context, token: string, now: UnixSeconds): Promise<EnrollingCaller | null> {
  const { enforcement, findUser } = ctx
  if (enforcement === undefined || findUser === undefined) return null
  const opened = ctx.enrollmentTokens.open(token, now)
  if (opened === null) return null
  const { id, userId, generation } = opened
  const user = await findUser(userId)
  if (!user) return null
  if ((await ctx.store.getUser(userId)).generation !== generation) return null
  const accountName = enforcement.accountName(user)
  return { id: userId, accountName, issuer: enforcement.issuer?.(user), enrollmentId: id }
}

/**
 * What a policy would do if it were switched on now. Changes nothing.
 *
 * @throws TypeError when the host gave no `findUser`
 */
export async function forecastEnforcement(
  ctx: Context,
  userIds: Iterable<string> | AsyncIterable<string>,
  required: EnforcementRule,
  now: UnixSeconds,
): Promise<EnforcementForecast> {
  const { findUser } = ctx
  if (findUser === undefined) throw new TypeError('forecastEnforcement requires the findUser option')
  const forecast = { users: 0, enabled: 0, asked: 0, shutOut: 0 }
  for await (const userId of userIds) {
    const user = await findUser(userId)
    if (!user) continue
    forecast.users++
    const rule = await required(user)
    if ((await ctx.store.getUser(userId)).confirmedAt !== null) forecast.enabled++
    else if (isDue(rule, now)) forecast.shutOut++
    else if (rule !== false) forecast.asked++
  }
  return forecast
}

function isDue(rule: boolean | { from: UnixSeconds }, now: UnixSeconds): boolean {
  if (typeof rule === 'boolean') return rule
  // NaN, a text or milliseconds would let everybody in, and nobody would notice.
  const { from } = rule
  if (!Number.isInteger(from) || from > MAX_UNIX_SECONDS) {
    throw new TypeError('enforcement.required must return true, false or { from } in Unix seconds')
  }
  return from <= now
}
