import type { UnixSeconds } from '../clock.ts'
import { announceChange } from './changes.ts'
import { type Context, checkUserId } from './context.ts'
import { type Status, visible } from './status.ts'

/** As many users as one read of the store looks up. */
const STATUSES_AT_ONCE = 500

/**
 * Deletes everything that is known of a user, wrong codes included, whether 2FA is on or off. What remains is one row: the
 * id, a counter and a time. A user who comes back under the same id would otherwise start counting at 0 again, and tokens
 * handed out before would be good once more.
 */
export async function forgetUser(ctx: Context, userId: string, now: UnixSeconds): Promise<void> {
  checkUserId(userId)
  await ctx.store.forgetUser(userId, now)
  await announceChange(ctx, null, { type: 'user.forgotten', userId, at: now })
}

/**
 * Ends open challenges, recovery links, trusted devices, refresh families and earlier proofs of a user whose password or
 * e-mail address changed.
 */
export async function credentialsChanged(ctx: Context, userId: string, now: UnixSeconds): Promise<void> {
  checkUserId(userId)
  await ctx.store.raiseGeneration(userId, now)
  await announceChange(ctx, null, { type: 'credentials.changed', userId, at: now })
}

/**
 * For a support desk that knows whom it speaks to: forgets the user's wrong codes, the hard cap included. The factors
 * stay.
 */
export async function unlock(ctx: Context, userId: string, now: UnixSeconds): Promise<void> {
  checkUserId(userId)
  await ctx.store.clearFailures(userId)
  await ctx.announce({ type: 'totp.unlocked', userId, at: now })
}

/** The statuses of many users, by id; a user never heard of has one too. */
export async function getStatuses(
  ctx: Context,
  userIds: Iterable<string>,
  now: UnixSeconds,
): Promise<Map<string, Status>> {
  const ids = [...new Set(userIds)]
  ids.forEach(checkUserId)
  const statuses = new Map<string, Status>()
  for (let start = 0; start < ids.length; start += STATUSES_AT_ONCE) {
    const some = ids.slice(start, start + STATUSES_AT_ONCE)
    const found = await ctx.store.getStatuses(some, now, ctx.policy.failures)
    for (const [index, status] of found.entries()) statuses.set(some[index] as string, visible(status))
  }
  return statuses
}

/** Deletes what has expired. Nothing depends on it. */
export function deleteExpired(ctx: Context, now: UnixSeconds): Promise<void> {
  return ctx.store.deleteExpired(now)
}
