import type { Session } from './pooled.ts'
import { MAX_TRANSACTION_MS } from './pooled.ts'

/** How long totp-kit may use a transaction of the host's. */
export interface WithinOptions {
  /**
   * Milliseconds after the call of `within` after which nothing is sent, 1 to 9,000. Default 9,000. Choose less than the
   * time limit of your own transaction.
   */
  deadlineMs?: number
  /** Nothing is sent after it was aborted. Abort it before you roll back without awaiting a call. */
  signal?: AbortSignal
}

/** The host's transaction on one connection, from the call of `within` until it ends. */
export interface HostTransaction {
  /**
   * Sends one statement.
   *
   * Rejects without sending when the host has ended the transaction or has given the connection back, and after the
   * deadline or an abort. Rejects at the deadline too when the statement has no answer by then.
   */
  send<T>(statement: () => Promise<T>): Promise<T>
  /** Sends the statements of one operation in a savepoint. One operation at a time uses the connection. */
  acquire(statements: Pick<Session, 'query' | 'text'>): Promise<Session>
  /** Sends one statement that needs no savepoint, when the connection is free. */
  single<T>(statement: () => Promise<T>): Promise<T>
}

/** Who uses a connection now, for all stores that share it. */
const turns = new WeakMap<object, Promise<unknown>>()

/** Runs `work` when the work before it on the same connection is done: a transaction must not mix with anything else. */
export function inTurn<T>(connection: object, work: () => Promise<T>): Promise<T> {
  const turn = (turns.get(connection) ?? Promise.resolve()).then(work)
  turns.set(
    connection,
    turn.catch(() => undefined),
  )
  return turn
}

/** Waits for the connection and keeps it until `release` is called. */
export function takeTurn<T>(connection: object, use: (release: () => void) => T): Promise<T> {
  return new Promise((resolve, reject) => {
    inTurn(connection, () => new Promise<void>((release) => resolve(use(release)))).catch(reject)
  })
}

/**
 * Follows the host's transaction on `connection` without sending anything.
 *
 * The host may give up while a statement of ours waits for a lock, roll back, and lend the connection on. A statement
 * that we sent then would run outside any transaction, or in somebody else's. So the methods that send are watched: the
 * first `COMMIT`, `ROLLBACK` (to a savepoint too) or `BEGIN` of the host's, or its giving the connection back, ends our
 * use of it.
 *
 * @param sendText - sends a plain statement on `connection`
 * @throws RangeError when `deadlineMs` is out of range
 */
export function hostTransaction(
  connection: object,
  sendText: (sql: string) => Promise<unknown>,
  { deadlineMs = MAX_TRANSACTION_MS, signal }: WithinOptions = {},
): HostTransaction {
  if (!Number.isInteger(deadlineMs) || deadlineMs < 1 || deadlineMs > MAX_TRANSACTION_MS) {
    throw new RangeError(`deadlineMs must be an integer from 1 to ${MAX_TRANSACTION_MS}`)
  }
  let over: Error | null = null
  let isInSavepoint = false
  let giveUp: (reason: Error) => void = () => undefined
  const givenUp = new Promise<never>((_, reject) => {
    giveUp = reject
  })
  givenUp.catch(() => undefined)

  const end = (reason: string) => {
    if (over) return
    over = new Error(reason)
    clearTimeout(timer)
    signal?.removeEventListener('abort', abort)
  }
  const stop = (reason: string) => {
    if (over) return
    // Before the host learns of it, and so ahead of whatever the host sends next: half an operation must not be committed.
    if (isInSavepoint) sendText('ROLLBACK TO SAVEPOINT totp_kit').catch(() => undefined)
    end(reason)
    giveUp(over as unknown as Error)
  }
  const abort = () => stop('the transaction was given up by the signal')
  const timer = setTimeout(() => stop(`the transaction did not end within ${deadlineMs} ms`), deadlineMs)
  timer.unref()
  watch(connection, () => end('the transaction of the host has ended'))
  if (signal?.aborted) abort()
  else signal?.addEventListener('abort', abort)

  const send = <T>(statement: () => Promise<T>): Promise<T> => {
    if (over) return Promise.reject(over)
    return Promise.race([statement(), givenUp])
  }
  return {
    send,
    single: (statement) => inTurn(connection, () => send(statement)),
    acquire: ({ query, text }) =>
      takeTurn(connection, (release) => ({
        text: (sql) => send(() => text(sql)),
        query: (name, parameters) => send(() => query(name, parameters)),
        begin: () =>
          send(() => {
            isInSavepoint = true
            return text('SAVEPOINT totp_kit')
          }).then(() => undefined),
        commit: () =>
          send(() => {
            isInSavepoint = false
            return text('RELEASE SAVEPOINT totp_kit')
          }).then(() => undefined),
        rollback: () =>
          send(() => {
            isInSavepoint = false
            return text('ROLLBACK TO SAVEPOINT totp_kit')
          }).then(() => undefined),
        release,
      })),
  }
}

/** Methods of a connection that send SQL, in `pg`, `mysql2` and PGlite. */
const SENDING = ['query', 'execute', 'exec']
/** Methods that end a transaction or a loan whatever they are called with. */
const ENDING = ['release', 'destroy', 'end', 'rollback', 'commit']

/** Ends the transaction or a part of it, or begins somebody else's. A comment may stand before it. */
const ENDS_TRANSACTION =
  /^(?:\s|\/\*[\s\S]*?\*\/)*(?:commit|end|abort|begin|start\s+transaction|prepare\s+transaction|rollback(?! TO SAVEPOINT totp_kit))\b/i

interface Emitter {
  on(event: 'error', listener: () => void): unknown
  removeListener(event: 'error', listener: () => void): unknown
}

type Method = (...args: unknown[]) => unknown

/** Per connection: who waits for the end of the host's transaction on it. */
const watched = new WeakMap<object, Set<() => void>>()

/** Calls `ended` once: when the host ends its transaction on `connection`, or gives the connection back. */
function watch(connection: object, ended: () => void): void {
  const waiting = watched.get(connection)
  if (waiting) {
    waiting.add(ended)
    return
  }
  const listeners = new Set([ended])
  watched.set(connection, listeners)
  const methods = connection as Record<string, unknown>
  const isLent = typeof methods.release === 'function'
  const restorations: (() => void)[] = []
  const restore = () => {
    watched.delete(connection)
    for (const restoration of restorations) restoration()
  }
  const patch = (name: string, endsBy: (args: readonly unknown[]) => boolean, isLast: boolean) => {
    const original = methods[name]
    if (typeof original !== 'function') return
    const isOwn = Object.hasOwn(methods, name)
    const replacement = function (this: unknown, ...args: unknown[]) {
      if (endsBy(args)) {
        for (const listener of listeners) listener()
        listeners.clear()
        if (isLast || !isLent) restore()
      }
      return (original as Method).apply(this, args)
    }
    methods[name] = replacement
    restorations.push(() => {
      if (methods[name] !== replacement) return
      if (isOwn) methods[name] = original
      else delete methods[name]
    })
  }
  for (const name of SENDING) patch(name, ([query]) => ENDS_TRANSACTION.test(textOf(query)), false)
  for (const name of ENDING) patch(name, () => true, name !== 'rollback' && name !== 'commit')
  if (typeof methods.on === 'function' && typeof methods.removeListener === 'function') {
    // A connection that a pool lends has no listener, and without one a connection that breaks ends the process.
    const emitter = connection as Emitter
    emitter.on('error', toldToTheStatement)
    restorations.push(() => emitter.removeListener('error', toldToTheStatement))
  }
}

const toldToTheStatement = () => undefined

function textOf(query: unknown): string {
  if (typeof query === 'string') return query
  const { text, sql } = (query ?? {}) as { text?: unknown; sql?: unknown }
  return typeof text === 'string' ? text : typeof sql === 'string' ? sql : ''
}
