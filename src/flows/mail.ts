import type { UnixSeconds } from '../clock.ts'
import type { Context } from './context.ts'

/** How long one mail, or the host's look-up of addresses, may take. As long as the store has (`context.ts`). */
const MAX_WAIT_MS = 10_000

/**
 * Does one piece of the work of mailing. A failure, or no end in ten seconds, reaches `onError` and is announced as
 * `mail.failed`, `at` the moment that the mail tells of; it holds up neither the other mails nor `close`. Null then.
 */
export async function tryMail<T>(
  ctx: Context,
  { userId, at }: { userId: string; at: UnixSeconds },
  work: () => Promise<T>,
): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined
  const tooLate = new Promise<never>((_, reject) => {
    const error = () => new Error(`sending an email took longer than ${MAX_WAIT_MS / 1000} seconds`)
    timer = setTimeout(() => reject(error()), MAX_WAIT_MS).unref()
  })
  try {
    return await Promise.race([work(), tooLate])
  } catch (error) {
    ctx.onError(error)
    await ctx.announce({ type: 'mail.failed', userId, at })
    return null
  } finally {
    clearTimeout(timer)
  }
}
