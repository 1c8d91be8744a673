import { checkOptions, type OptionNames, unknownEvent } from './check-options.ts'
import { TOTP_EVENTS, type TotpEvent } from './events.ts'

/** Hears one kind of event. What it throws or rejects with never reaches the request that caused the event. */
export type TotpListener<T extends TotpEvent['type']> = (event: Extract<TotpEvent, { type: T }>) => void | Promise<void>

/** Tells every listener of the event's type, and waits for those that want to be waited for. Never rejects. */
export type Announce = (event: TotpEvent) => Promise<void>

/** The options of `totp.on`. */
export interface ListenerOptions {
  /**
   * True: the request that caused the event is answered when the listener is done, or after ten seconds; for an audit
   * log that must not lag behind. Default: it is not waited for.
   */
  awaited?: boolean | undefined
}

const LISTENER_OPTIONS: OptionNames<ListenerOptions> = { awaited: true }

/**
 * Begins to listen to one kind of event, or to all with `*`.
 *
 * @returns ends it
 * @throws TypeError for an event or an option that does not exist
 */
export type Listen = <T extends TotpEvent['type'] | '*'>(
  type: T,
  listener: (event: T extends '*' ? TotpEvent : Extract<TotpEvent, { type: T }>) => void | Promise<void>,
  options?: ListenerOptions,
) => () => void

/** Listeners by type, and the way to tell them. */
export interface Announcer {
  on: Listen
  announce: Announce
}

type AnyListener = (event: TotpEvent) => void | Promise<void>

const KINDS: ReadonlySet<string> = new Set<TotpEvent['type'] | '*'>([...TOTP_EVENTS, '*'])

/** A listener that hangs must not hold logins for ever. */
const MAX_WAIT_MS = 10_000

/** @param onListenerError - hears what a listener threw or rejected with */
export function createAnnouncer(onListenerError: (error: unknown) => void): Announcer {
  const listeners = new Set<{ type: string; listener: AnyListener; awaited: boolean }>()
  return {
    on(type, listener, options = {}) {
      if (!KINDS.has(type)) throw unknownEvent(type, TOTP_EVENTS)
      checkOptions(options, LISTENER_OPTIONS)
      const { awaited = false } = options
      const one = { type, listener: listener as AnyListener, awaited }
      listeners.add(one)
      return () => void listeners.delete(one)
    },
    async announce(event) {
      const waitedFor: Promise<void>[] = []
      for (const { type, listener, awaited } of [...listeners]) {
        if (type !== event.type && type !== '*') continue
        // In a promise of its own: a listener that throws must fail neither the request nor the listeners after it.
        const told = Promise.resolve(event).then(listener).catch(onListenerError)
        if (awaited) waitedFor.push(notLongerThan(MAX_WAIT_MS, told))
      }
      if (waitedFor.length > 0) await Promise.all(waitedFor)
    },
  }
}

async function notLongerThan(milliseconds: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const tooLong = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, milliseconds)
  })
  await Promise.race([work, tooLong])
  clearTimeout(timer)
}
