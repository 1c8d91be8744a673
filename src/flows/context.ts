import type { KeyObject } from 'node:crypto'
import type { Announce } from '../announcer.ts'
import type { Clock, UnixSeconds } from '../clock.ts'
import type { Keyring } from '../crypto/keyring.ts'
import type { TokenSealer } from '../crypto/sealed-token.ts'
import { TotpError } from '../errors.ts'
import type { By } from '../events.ts'
import type { Policy } from '../policy.ts'
import { mapStore } from '../store/operations.ts'
import type { TotpStore } from '../store/store.ts'
import type { Throttle } from './throttle.ts'

/**
 * Whether a user must have a second factor: false; true; or from when on, so that there is time to enroll. Gets what
 * `findUser` gives.
 */
export type EnforcementRule<User = unknown> = (
  user: User,
) => boolean | { from: UnixSeconds } | Promise<boolean | { from: UnixSeconds }>

/** How a host makes some users have a second factor. */
export interface Enforcement<User = unknown> {
  /** Whether this user must have a second factor, or from when on. Required. */
  required: EnforcementRule<User>
  /** Shown in the authenticator app: an address or a user name, without a colon. Required. */
  accountName: (user: User) => string
  /** The heading in the app, where it differs by user or tenant. Default: the option `issuer`. */
  issuer?: ((user: User) => string | undefined) | undefined
}

/** What every flow works with. Put together once, in `create-totp.ts`. */
export interface Context {
  /** The service: what its proofs are bound to, the same for a service within a transaction. */
  service: object
  policy: Policy
  store: TotpStore
  clock: Clock
  /** Bytes from a cryptographically secure source. */
  random: (bytes: number) => Uint8Array
  keyring: Keyring
  challengeTokens: TokenSealer
  enrollmentTokens: TokenSealer
  trustedDeviceTokens: TokenSealer
  backupCodeKeys: readonly KeyObject[]
  announce: Announce
  /** One for the whole service: a second handler, or one for each request, must not multiply the rate limit. */
  throttle: Throttle
  /** The host's user, or null when there is none by that id or it may not log in. */
  findUser: ((userId: string) => unknown) | undefined
  enforcement: Enforcement | undefined
  /** Does something after the request has been answered; what it throws goes to `onError`. `close` waits for it. */
  afterResponse: (work: () => Promise<void>) => void
  /** Receives errors that must not reach clients: the causes of `unavailable`, and errors of listeners. */
  onError: (error: unknown) => void
}

/**
 * How long a flow waits for the store. Ten seconds: longer than SQLite waits for another process's lock (5 s) or a
 * database takes over a deadlock (1 s), shorter than proxies wait for us (60 s). Without it, a database that accepts
 * connections and never answers would hold every login, and the memory of every request, for ever.
 */
const MAX_WAIT_MS = 10_000

/**
 * The store with every failure turned into `unavailable`, so that a failure refuses the request. A timeout of ten seconds
 * counts as a failure.
 *
 * @param onError - receives an error with the name of the operation if the store completes it after the timeout, although
 * the request was refused
 */
export function failClosed(store: TotpStore, onError: (error: unknown) => void): TotpStore {
  return mapStore(store, (operation, name) => async (...args) => {
    let timer: NodeJS.Timeout | undefined
    let isLate = false
    const tooLate = new Promise<never>((_, reject) => {
      // The error is made when it is due: one with every call, for its stack, cost more than the rest of the waiting.
      const error = () => new Error(`the store did not answer within ${MAX_WAIT_MS / 1000} seconds`)
      timer = setTimeout(() => {
        isLate = true
        reject(error())
      }, MAX_WAIT_MS)
    })
    try {
      const answer = operation(...args)
      answer.then(
        () => isLate && onError(new Error(`the store completed ${name} after its request was refused`)),
        () => undefined,
      )
      return await Promise.race([answer, tooLate])
    } catch (cause) {
      throw new TotpError('unavailable', { retryAfterSeconds: 5, cause })
    } finally {
      clearTimeout(timer)
    }
  })
}

/** A random name of 128 bits, for what the store keeps apart: authenticators, tokens, families. */
export function newId(ctx: Context): string {
  return Buffer.from(ctx.random(16)).toString('base64url')
}

/**
 * @throws TypeError when `userId` is not a text of 1 to 255 characters: a bug in the host. An object or an undefined
 * taken for a user must not share a row with another one.
 */
export function checkUserId(userId: string): void {
  if (!isIdentifier(userId)) {
    throw new TypeError('user id must be a string of 1 to 255 characters; convert numbers with String()')
  }
}

function isIdentifier(value: unknown): boolean {
  return typeof value === 'string' && /^[^\0]{1,255}$/su.test(value) && value.isWellFormed()
}

/**
 * The context for one call: every event that is announced with it says who caused it.
 *
 * @throws TypeError when `actor` is not a text of 1 to 255 characters
 */
export function causedBy(ctx: Context, { sessionId, actor }: By): Context {
  if (actor !== undefined && !isIdentifier(actor)) {
    throw new TypeError('actor must be a string of 1 to 255 characters')
  }
  const by = { ...(sessionId ? { sessionId } : {}), ...(actor === undefined ? {} : { actor }) }
  return { ...ctx, announce: (event) => ctx.announce({ ...event, ...by }) }
}

/** False when the host's `findUser`, if it gave one, does not know the user any more: gone, or not to log in. */
export async function isActive({ findUser }: Context, userId: string): Promise<boolean> {
  if (findUser === undefined) return true
  return Boolean(await findUser(userId))
}

const contexts = new WeakMap<object, Context>()

/** Ties a context to the object that the host holds, so that the doors find it and the host cannot reach into it. */
export function registerContext(totp: object, ctx: Context): void {
  contexts.set(totp, ctx)
}

/** @throws TypeError when `totp` was not made by `createTotp`, or is the promise of one */
export function contextOf(totp: object): Context {
  const ctx = contexts.get(totp)
  if (ctx === undefined)
    throw new TypeError(
      'not a service that createTotp returned: write `await createTotp(…)`, and load only one copy of totp-kit',
    )
  return ctx
}

/**
 * Background work, started after a random delay of up to 255 ms, so that neither this response nor the next request of a
 * client reveals by its timing whether there was any.
 */
export function backgroundTasks(random: (bytes: number) => Uint8Array, onError: (error: unknown) => void) {
  const open = new Set<Promise<void>>()
  const wait = () => new Promise((resolve) => setTimeout(resolve, random(1)[0]))
  return {
    afterResponse(work: () => Promise<void>): void {
      const done = wait()
        .then(work)
        .catch(onError)
        .finally(() => open.delete(done))
      open.add(done)
    },
    async drain(): Promise<void> {
      while (open.size > 0) await Promise.all(open)
    },
  }
}
