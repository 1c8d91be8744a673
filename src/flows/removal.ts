import type { UnixSeconds } from '../clock.ts'
import { TotpError } from '../errors.ts'
import { announceChange } from './changes.ts'
import { type Context, checkUserId } from './context.ts'
import type { Status } from './status.ts'
import { type ChangePermit, outdatedPermit } from './step-up.ts'
import { notEnabled } from './verify-code.ts'

/**
 * Switches 2FA off: authenticators and backup codes are gone, open challenges and the user's other refresh families
 * end. An enrollment that was never confirmed is dropped, and nothing else changes.
 *
 * @throws TotpError `totp_not_set_up`, `step_up_required`, `unavailable`
 */
export async function disableTotp(
  ctx: Context,
  grant: ChangePermit,
  keepFamilyId: string | null,
  now: UnixSeconds,
): Promise<void> {
  const { userId, user } = grant
  if (user.confirmedAt === null) {
    const absent = await notEnabled(ctx, userId, now)
    if (absent.code === 'totp_not_set_up') throw absent
  }
  const removed = await ctx.store.removeFactors({
    userId,
    generation: user.generation,
    token: null,
    keepFamilyId,
    now,
    limits: ctx.policy.failures,
  })
  if (removed.outcome !== 'removed') throw await outdatedPermit(ctx, userId)
  if (user.confirmedAt !== null) await announceChange(ctx, keepFamilyId, { type: 'totp.disabled', userId, at: now })
}

/**
 * Removes one authenticator of several; the last one goes by {@link disableTotp} only. Open challenges, trusted devices
 * and the user's other refresh families end.
 *
 * @throws TotpError `not_found`; `validation_failed` for the last one; `totp_not_set_up`, `step_up_required`,
 * `unavailable`
 */
export async function removeAuthenticator(
  ctx: Context,
  { userId, user }: ChangePermit,
  { authenticatorId, keepFamilyId }: { authenticatorId: string; keepFamilyId: string | null },
  now: UnixSeconds,
): Promise<void> {
  const { generation } = user
  const outcome = await ctx.store.removeAuthenticator({ userId, authenticatorId, generation, keepFamilyId, now })
  switch (outcome) {
    case 'removed':
      return announceChange(ctx, keepFamilyId, { type: 'authenticator.removed', userId, authenticatorId, at: now })
    case 'last':
      throw new TotpError('validation_failed', {
        fields: { id: ['The last authenticator cannot be removed. Turn off two-factor authentication instead.'] },
      })
    case 'absent':
      throw new TotpError('not_found')
    case 'stale':
      throw await outdatedPermit(ctx, userId)
  }
}

/**
 * Looks whether the user has this authenticator, so that no code is spent on one that is gone. The removal looks again.
 *
 * @throws TotpError `not_found`
 */
export async function checkAuthenticator(
  ctx: Context,
  userId: string,
  authenticatorId: string,
  now: UnixSeconds,
): Promise<void> {
  checkUserId(userId)
  const { authenticators } = await ctx.store.getStatus(userId, now, ctx.policy.failures)
  if (!authenticators.some(({ id }) => id === authenticatorId)) throw new TotpError('not_found')
}

/**
 * Gives a live authenticator another name. The event does not hold it: it is the user's own text.
 *
 * @throws TotpError `not_found`, `unavailable`
 */
export async function renameAuthenticator(
  ctx: Context,
  userId: string,
  { authenticatorId, newName }: { authenticatorId: string; newName: string },
  now: UnixSeconds,
): Promise<Status['authenticators'][number]> {
  checkUserId(userId)
  const renamed = await ctx.store.renameAuthenticator(userId, authenticatorId, newName)
  if (renamed === null) throw new TotpError('not_found')
  await ctx.announce({ type: 'authenticator.renamed', userId, authenticatorId, at: now })
  const { id, name, createdAt, lastUsedAt } = renamed
  return { id, name, createdAt, lastUsedAt }
}
