import type { Announce } from '../announcer.ts'
import { checkOptions, type OptionNames } from '../check-options.ts'
import type { TotpEvent } from '../events.ts'
import type { TotpStore } from '../store/store.ts'
import { type Context, failClosed } from './context.ts'

/** How long a transaction of the host may be used. */
export interface WithinLimits {
  /** Milliseconds after which nothing is sent, 1 to 9,000. Default 9,000. Choose less than the limit of your transaction. */
  deadlineMs?: number | undefined
  /** Nothing is sent after it was aborted. Default: none. */
  signal?: AbortSignal | undefined
}

const WITHIN_LIMITS: OptionNames<WithinLimits> = { deadlineMs: true, signal: true }

interface WithinStore extends TotpStore {
  within(client: object, options: WithinLimits & { onEnd?: (isCommitted: boolean) => void }): TotpStore
}

/** A refused attempt is counted outside the transaction and stays, so what is told of it stays true after a roll-back. */
const TOLD_AT_ONCE: ReadonlySet<TotpEvent['type']> = new Set(['totp.refused', 'totp.failing', 'totp.locked'])

/**
 * What the flows work with inside a transaction of the host's, on `client`. What they announce there is told when the commit
 * has been seen on the client, and never after a roll-back.
 *
 * @throws TypeError for an unknown limit, or when the store has no `within`, or the end of the transaction cannot be seen
 */
export function contextWithin(ctx: Context, store: TotpStore, client: object, limits: WithinLimits): Context {
  checkOptions(limits, WITHIN_LIMITS)
  if ((client as { endsUnseen?: boolean }).endsUnseen) {
    throw new TypeError('the end of this transaction cannot be detected: wrap it in totp.transaction')
  }
  const held: TotpEvent[] = []
  const onEnd = (isCommitted: boolean) => {
    if (isCommitted) tellAll(ctx.announce, held)
  }
  return insideOf(ctx, storeWithin(ctx, store, client, { ...limits, onEnd }), held)
}

/** As {@link contextWithin}, but `held` keeps what is announced: the caller sees the end. */
export function contextHolding(
  ctx: Context,
  store: TotpStore,
  client: object,
  { held, ...limits }: WithinLimits & { held: TotpEvent[] },
): Context {
  checkOptions(limits, WITHIN_LIMITS)
  return insideOf(ctx, storeWithin(ctx, store, client, limits), held)
}

/** One after the other, in the order in which they were announced. */
export async function tellAll(announce: Announce, held: readonly TotpEvent[]): Promise<void> {
  for (const event of held) await announce(event)
}

function storeWithin(
  ctx: Context,
  store: TotpStore,
  client: object,
  { deadlineMs, signal, onEnd }: WithinLimits & { onEnd?: (isCommitted: boolean) => void },
): TotpStore {
  if (!('within' in store)) throw new TypeError('this store does not support totp.within')
  const given = { ...(deadlineMs === undefined ? {} : { deadlineMs }), ...(signal === undefined ? {} : { signal }) }
  return failClosed((store as WithinStore).within(client, onEnd ? { ...given, onEnd } : given), ctx.onError)
}

function insideOf(ctx: Context, store: TotpStore, held: TotpEvent[]): Context {
  const announce: Announce = async (event) => {
    if (TOLD_AT_ONCE.has(event.type)) return ctx.announce(event)
    held.push(event)
  }
  return { ...ctx, store, announce }
}
