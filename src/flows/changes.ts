import type { TotpEvent } from '../events.ts'
import type { Context } from './context.ts'

/** A change of factors or credentials, after which the user's generation is another. */
type Change = Extract<
  TotpEvent,
  {
    type:
      | 'totp.confirmed'
      | 'totp.imported'
      | 'totp.disabled'
      | 'authenticator.removed'
      | 'recovery.confirmed'
      | 'recovery.canceled'
      | 'credentials.changed'
      | 'user.forgotten'
  }
>

/**
 * Announces a change and, before it, the end of the user's sessions that goes with every change.
 *
 * @param keptSessionId - the session of the caller who made the change; null: none survives
 */
export async function announceChange(ctx: Context, keptSessionId: string | null, change: Change): Promise<void> {
  const { userId, at } = change
  await ctx.announce({ type: 'sessions.ended', userId, keptSessionId, at })
  await ctx.announce(change)
}
