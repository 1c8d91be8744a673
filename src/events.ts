import type { UnixSeconds } from './clock.ts'
import type { ErrorCode } from './errors.ts'

/** How a second factor was proved: with a code of the authenticator app, or with a backup code. */
export type SecondFactorMethod = 'totp' | 'backup_code'

/** What the flows announce. None of them holds a secret, a code, a token or a sealed value. */
export type TotpEvent = { userId: string; at: UnixSeconds } & (
  | { type: 'totp.created' }
  | { type: 'totp.confirmed'; replaced: boolean }
  | { type: 'totp.disabled' }
  | { type: 'totp.verified'; method: SecondFactorMethod }
  | { type: 'totp.refused'; method: SecondFactorMethod; code: ErrorCode }
  | { type: 'backup_codes.rotated' }
  | { type: 'backup_codes.viewed' }
  | { type: 'backup_code.used'; remaining: number }
  | { type: 'credentials.changed' }
  | { type: 'secret.unreadable' }
)

/** Hears one kind of event. What it throws or rejects with never reaches the request that caused the event. */
export type TotpListener<T extends TotpEvent['type']> = (event: Extract<TotpEvent, { type: T }>) => void | Promise<void>

/** Tells every listener of the event's type, without waiting for any. */
export type Announce = (event: TotpEvent) => void

/** Listeners by type, and the way to tell them. */
export interface Announcer {
  on<T extends TotpEvent['type']>(type: T, listener: TotpListener<T>): void
  announce: Announce
}

/** @param onListenerError - hears what a listener threw or rejected with */
export function createAnnouncer(onListenerError: (error: unknown) => void): Announcer {
  const listeners = new Map<string, ((event: TotpEvent) => void | Promise<void>)[]>()
  return {
    on(type, listener) {
      listeners.set(type, [...(listeners.get(type) ?? []), listener as (event: TotpEvent) => void | Promise<void>])
    },
    announce(event) {
      for (const listener of listeners.get(event.type) ?? []) {
        // In a promise of its own: a listener that throws must fail neither the request nor the listeners after it.
        Promise.resolve(event).then(listener).catch(onListenerError)
      }
    },
  }
}
