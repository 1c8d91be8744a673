import type { Context } from './context.ts'
import { notEnabled } from './proof.ts'
import { type Grant, outdatedGrant } from './step-up.ts'

/**
 * Switches 2FA off: authenticators and backup codes are gone, open challenges and the user's other refresh families
 * end. An enrolment that was never confirmed is dropped, and nothing else changes.
 *
 * @throws TotpError `totp_not_set_up`, `step_up_required`, `unavailable`
 */
export async function disableTotp(ctx: Context, grant: Grant, keepFamilyId: string | null): Promise<void> {
  const { userId, user } = grant
  const now = ctx.clock()
  if (user.confirmedAt === null) {
    const absent = await notEnabled(ctx, userId)
    if (absent.code === 'totp_not_set_up') throw absent
  }
  const removed = await ctx.store.removeFactors({
    userId,
    generation: user.generation,
    keepFamilyId,
    now,
    limits: ctx.policy.failures,
  })
  if (!removed) throw await outdatedGrant(ctx, userId)
  if (user.confirmedAt !== null) ctx.announce({ type: 'totp.disabled', userId, at: now })
}
