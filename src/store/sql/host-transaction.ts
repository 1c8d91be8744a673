import { checkOptions, type OptionNames } from '../../check-options.ts'
import type { Session } from './pooled.ts'
import { MAX_TRANSACTION_MS } from './pooled.ts'

/** How long totp-kit may use a transaction of the host's. */
export interface WithinOptions {
  /**
   * Milliseconds after the call of `within` after which nothing is sent, 1 to 9,000. Default 9,000. Choose less than the
   * time limit of your own transaction.
   */
  deadlineMs?: number | undefined
  /** Nothing is sent after it was aborted. Abort it before you roll back without awaiting a call. Default: none. */
  signal?: AbortSignal | undefined
  /**
   * Told once how the transaction ended: true when a `COMMIT` of the host's has succeeded on the connection, false after a
   * roll-back, after a commit that failed, or when the connection is given back without one. Never told where the end
   * cannot be seen. Default: nothing is called.
   */
  onEnd?: ((isCommitted: boolean) => void) | undefined
}

const WITHIN_OPTIONS: OptionNames<WithinOptions> = { deadlineMs: true, signal: true, onEnd: true }

/** The host's transaction on one connection, from the call of `within` until it ends. */
interface HostTransaction {
  /**
   * Sends the statements of one operation in a savepoint. One operation at a time uses the connection.
   *
   * A statement rejects without being sent when the host has ended the transaction or has given the connection back, and
   * after the deadline or an abort. One that has no answer by then rejects too, and the savepoint is rolled back.
   */
  acquire(statements: Statements): Promise<Session>
  /** An operation of one statement. In a savepoint too: it may wait for a lock when the time is over. */
  single(statements: Statements, ...query: Parameters<Session['query']>): ReturnType<Session['query']>
}

type Statements = Pick<Session, 'query' | 'text'>

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
 * @throws TypeError for an unknown option; RangeError when `deadlineMs` is out of range
 */
export function hostTransaction(
  connection: object,
  sendText: (sql: string) => Promise<unknown>,
  options: WithinOptions = {},
): HostTransaction {
  checkOptions(options, WITHIN_OPTIONS)
  const { deadlineMs = MAX_TRANSACTION_MS, signal, onEnd } = options
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

  const stop = (reason: string) => {
    if (over) return
    over = new Error(reason)
    clearTimeout(timer)
    signal?.removeEventListener('abort', abort)
    unwatch()
    if (!isInSavepoint) return
    // Before the host learns of it, and so ahead of whatever the host sends next: half an operation must not be committed.
    sendText('ROLLBACK TO SAVEPOINT totp_kit').catch(() => undefined)
    giveUp(over)
  }
  const abort = () => stop('the transaction was aborted by the signal')
  const timer = setTimeout(() => stop(`the transaction did not end within ${deadlineMs} ms`), deadlineMs)
  timer.unref()
  const unwatch = watch(connection, () => stop('the host has already ended this transaction'))
  // By itself: what the host does with its transaction counts after the deadline too.
  if (onEnd) watch(connection, (isCommitted) => void isCommitted.then(onEnd))
  if (signal?.aborted) abort()
  else signal?.addEventListener('abort', abort)

  const send = <T>(statement: () => Promise<T>): Promise<T> => {
    if (over) return Promise.reject(over)
    return Promise.race([statement(), givenUp])
  }
  const acquire = ({ query, text }: Statements) =>
    takeTurn(connection, (release): Session => {
      const savepoint = (sql: string, isOpen: boolean) =>
        send(() => {
          isInSavepoint = isOpen
          return text(sql)
        }).then(() => undefined)
      return {
        text: (sql) => send(() => text(sql)),
        query: (name, parameters) => send(() => query(name, parameters)),
        // MySQL takes a savepoint outside a transaction too, and forgets it: the second statement fails there.
        begin: () =>
          savepoint('SAVEPOINT totp_kit', true).then(() => savepoint('ROLLBACK TO SAVEPOINT totp_kit', true)),
        commit: () => savepoint('RELEASE SAVEPOINT totp_kit', false),
        rollback: () => savepoint('ROLLBACK TO SAVEPOINT totp_kit', false),
        release,
      }
    })
  return {
    acquire,
    async single(statements, name, parameters) {
      const session = await acquire(statements)
      try {
        await session.begin('write')
        const result = await session.query(name, parameters)
        await session.commit()
        return result
      } catch (error) {
        await session.rollback().catch(() => undefined)
        throw error
      } finally {
        session.release(false)
      }
    },
  }
}

/** Methods of a connection that send SQL, in `pg`, `mysql2` and PGlite. */
const SENDING = ['query', 'execute', 'exec']
/** Methods that end a transaction or a loan whatever they are called with. */
const ENDING = ['release', 'destroy', 'end', 'rollback', 'commit']

/** White space and comments. A `#` begins one in MySQL, and nothing in PostgreSQL. One way to match each: no backtracking. */
const NOTHING = String.raw`(?:\s|\/\*(?:[^*]|\*(?!\/))*\*\/|(?:--|#)[^\n]*\n)*`
/**
 * Ends the transaction or a part of it, or begins somebody else's. Of several statements in one text the first is looked
 * at, and the others for a commit or a roll-back: `END` after a semicolon may end a block.
 */
const ENDS_TRANSACTION = new RegExp(
  `(?:^${NOTHING}(?:end|abort|begin|start\\s+transaction|prepare\\s+transaction)` +
    `|(?:^|;)${NOTHING}(?:commit|rollback(?! TO SAVEPOINT totp_kit)))\\b`,
  'i',
)

/** Ends the transaction by keeping it, when it succeeds. */
const COMMITS = new RegExp(`^${NOTHING}end\\b|(?:^|;)${NOTHING}commit\\b`, 'i')

interface Emitter {
  on(event: 'error', listener: () => void): unknown
  removeListener(event: 'error', listener: () => void): unknown
}

type Method = (...args: unknown[]) => unknown

type Ended = (isCommitted: Promise<boolean>) => void

/** Per connection: who waits for the end of the host's transaction on it. */
const watched = new WeakMap<object, Set<Ended>>()

/**
 * Calls `ended` once: when the host ends its transaction on `connection`, or gives the connection back.
 *
 * @returns forgets `ended`
 */
function watch(connection: object, ended: Ended): () => void {
  const listeners = watched.get(connection) ?? watchAnew(connection)
  listeners.add(ended)
  return () => listeners.delete(ended)
}

function watchAnew(connection: object): Set<Ended> {
  const listeners = new Set<Ended>()
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
      const call = (given: unknown[]) => (original as Method).apply(this, given)
      if (!endsBy(args)) return call(args)
      let tell: (isCommitted: boolean) => void = () => undefined
      const isCommitted = new Promise<boolean>((resolve) => {
        tell = resolve
      })
      const ended = [...listeners]
      listeners.clear()
      for (const listener of ended) listener(isCommitted)
      if (isLast || !isLent) restore()
      if (name === 'commit' || (SENDING.includes(name) && COMMITS.test(textOf(args[0])))) {
        return listeningTo(call, args, tell)
      }
      tell(false)
      return call(args)
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
  return listeners
}

/** Makes a call that commits, and tells whether it has; drivers answer with a promise or by a callback. */
function listeningTo(
  call: (args: unknown[]) => unknown,
  args: readonly unknown[],
  tell: (isCommitted: boolean) => void,
): unknown {
  const callback = args.at(-1)
  // PostgreSQL answers the COMMIT of a transaction that has failed with ROLLBACK, which is no error.
  const succeeded = (result: unknown) => (result as { command?: unknown } | undefined)?.command !== 'ROLLBACK'
  if (typeof callback === 'function') {
    return call([
      ...args.slice(0, -1),
      function (this: unknown, ...answer: unknown[]) {
        tell(!answer[0] && succeeded(answer[1]))
        return callback.apply(this, answer)
      },
    ])
  }
  const answer = call([...args])
  if (answer instanceof Promise)
    answer.then(
      (result) => tell(succeeded(result)),
      () => tell(false),
    )
  return answer
}

const toldToTheStatement = () => undefined

function textOf(query: unknown): string {
  if (typeof query === 'string') return query
  const { text, sql } = (query ?? {}) as { text?: unknown; sql?: unknown }
  return typeof text === 'string' ? text : typeof sql === 'string' ? sql : ''
}
