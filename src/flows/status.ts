import type { UnixSeconds } from '../clock.ts'
import type { AuthenticatorRecord, FactorStatus } from '../store/store.ts'
import { type Context, checkUserId } from './context.ts'

/** What a user may see of the second factor: nothing in it is secret. Times are Unix seconds. */
export interface Status
  extends Pick<FactorStatus, 'backupCodesRemaining' | 'backupCodesSavedAt' | 'trustedDevices' | 'lockedUntil'> {
  /** True when a second factor is on: a confirmed one, whatever else is pending. */
  isTotpEnabled: boolean
  /** Since when; null: 2FA is off. */
  confirmedAt: UnixSeconds | null
  /** The live authenticators, the oldest first. `lastUsedAt` null: never used. */
  authenticators: Pick<AuthenticatorRecord, 'id' | 'name' | 'createdAt' | 'lastUsedAt'>[]
  /** An enrollment that waits for its first code; null: there is none. */
  pending: { expiresAt: UnixSeconds } | null
}

/** True when a second factor is on: a confirmed one, whatever else is pending. */
export async function isTotpEnabled(ctx: Context, userId: string): Promise<boolean> {
  checkUserId(userId)
  return (await ctx.store.getUser(userId)).confirmedAt !== null
}

/** What the user sees of the second factor. */
export async function getStatus(ctx: Context, userId: string, now: UnixSeconds): Promise<Status> {
  checkUserId(userId)
  return visible(await ctx.store.getStatus(userId, now, ctx.policy.failures))
}

/** What a user may see of what the store knows. */
export function visible({ user, authenticators, pendingUntil, ...counts }: FactorStatus): Status {
  const { backupCodesRemaining, backupCodesSavedAt, trustedDevices, lockedUntil } = counts
  return {
    isTotpEnabled: user.confirmedAt !== null,
    confirmedAt: user.confirmedAt,
    authenticators: authenticators.map(({ id, name, createdAt, lastUsedAt }) => ({ id, name, createdAt, lastUsedAt })),
    backupCodesRemaining,
    backupCodesSavedAt,
    pending: pendingUntil === null ? null : { expiresAt: pendingUntil },
    trustedDevices,
    lockedUntil,
  }
}
