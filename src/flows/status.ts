import type { FactorStatus } from '../store/store.ts'
import { type Context, checkUserId } from './context.ts'

/** True when a second factor is on: a confirmed one, whatever else is pending. */
export async function isTotpEnabled(ctx: Context, userId: string): Promise<boolean> {
  checkUserId(userId)
  return (await ctx.store.getUser(userId)).confirmedAt !== null
}

/** What the user sees of the second factor. `authenticators` carry no secret that opens without the key. */
export function getStatus(ctx: Context, userId: string): Promise<FactorStatus> {
  checkUserId(userId)
  return ctx.store.getStatus(userId, ctx.clock(), ctx.policy.failures)
}
