import { checkOptions, type OptionNames } from '../check-options.ts'
import { mapStore } from '../store/operations.ts'
import { MAX_CLOCK_SKEW_SECONDS } from '../store/single-use.ts'
import type { WithinOptions } from '../store/sql/host-transaction.ts'
import type { SingleUse, TotpStore } from '../store/store.ts'

/** What is needed of a client of `redis` (node-redis). */
export interface NodeRedisClient {
  /** Sends one command with its arguments. */
  sendCommand(args: string[]): Promise<unknown>
}

/** What is needed of a client of `ioredis`. */
export interface IoRedisClient {
  /** Sends one command with its arguments. */
  call(command: string, ...args: string[]): Promise<unknown>
}

/** The options of {@link withRedis}. */
export interface RedisOptions {
  /** The start of each key. Default `totp:`. */
  prefix?: string | undefined
}

const REDIS_OPTIONS: OptionNames<RedisOptions> = { prefix: true }

/** A store that works within a transaction of the host's. */
export interface Within<Connection> {
  /** The store inside a transaction that is open on `connection`. */
  within(connection: Connection, options?: WithinOptions): TotpStore
}

/** As `store` is: with `within` where it has it. */
export type WithinRedis<Store> = Store extends Within<infer Connection> ? TotpStore & Within<Connection> : TotpStore

/** Counts one call in the window of its key: KEYS[1]; ARGV: now, window. Gives the calls and the window's end. */
const COUNT_CALL = `
local calls = tonumber(redis.call('HGET', KEYS[1], 'calls') or '0')
local ends = tonumber(redis.call('HGET', KEYS[1], 'ends') or '0')
local now, window = tonumber(ARGV[1]), tonumber(ARGV[2])
if ends <= now or ends > now + window then
  calls, ends = 0, now + window
end
calls = calls + 1
redis.call('HSET', KEYS[1], 'calls', calls, 'ends', ends)
redis.call('EXPIRE', KEYS[1], window + 60)
return {calls, ends}`

/**
 * The store with its short-lived part in Redis: throttle counters and burnt tokens. Everything that must outlive a
 * restart of Redis stays in `store`: time steps, backup codes, failures. When Redis cannot be reached, nobody passes.
 *
 * A token is burnt before what it leads to is done, and given back when that is refused; a process that dies in between
 * leaves a burnt token, and the user asks for another.
 *
 * A store that can be had within a transaction of the host's can be had so here, too. What was burnt in it stays burnt when
 * the host rolls back.
 *
 * @param client - connected; of `redis` or `ioredis`; stays the host's to close
 *
 * @example
 * ```ts
 * import { Pool } from 'pg'
 * import { createClient } from 'redis'
 * import { withRedis } from 'totp-kit/redis'
 * import { postgresStore } from 'totp-kit/store/postgres'
 *
 * const redis = await createClient({ url: 'redis://localhost' }).connect()
 * const store = withRedis(postgresStore(new Pool()), redis, { prefix: 'app:totp:' })
 * ```
 *
 * @throws TypeError for an unknown option
 */
export function withRedis<Store extends TotpStore>(
  store: Store,
  client: NodeRedisClient | IoRedisClient,
  options: RedisOptions = {},
): WithinRedis<Store> {
  checkOptions(options, REDIS_OPTIONS)
  const inFront = inFrontOf(store, client, options)
  if (!('within' in store)) return inFront as WithinRedis<Store>
  const { within } = store as unknown as Within<unknown>
  const inTransaction = (...host: [connection: unknown, limits?: WithinOptions]) =>
    inFrontOf(within.call(store, ...host), client, options)
  return { ...inFront, within: inTransaction } as unknown as WithinRedis<Store>
}

function inFrontOf(
  store: TotpStore,
  client: NodeRedisClient | IoRedisClient,
  { prefix = 'totp:' }: RedisOptions,
): TotpStore {
  const send = ([command = '', ...args]: string[]): Promise<unknown> =>
    'sendCommand' in client && !('call' in client)
      ? (client as NodeRedisClient).sendCommand([command, ...args])
      : (client as IoRedisClient).call(command, ...args)
  const burntKey = (tokenId: string) => `${prefix}burnt:${tokenId}`
  /** False when the token is burnt already, or has expired and its mark may be forgotten. */
  const burn = async ({ tokenId, expiresAt }: Pick<SingleUse, 'tokenId' | 'expiresAt'>, now: number) => {
    const seconds = String(expiresAt - now + MAX_CLOCK_SKEW_SECONDS)
    return expiresAt >= now && (await send(['SET', burntKey(tokenId), '1', 'NX', 'EX', seconds])) !== null
  }
  const giveBack = (token: SingleUse) => send(['DEL', burntKey(token.tokenId)])
  const isBurnt = async (tokenId: string) => Number(await send(['EXISTS', burntKey(tokenId)])) === 1

  return {
    ...mapStore(store),

    async isTokenUnused(tokenId) {
      return !(await isBurnt(tokenId))
    },

    async readFactors(attempt) {
      const { token } = attempt
      if (token && (await isBurnt(token.tokenId))) return { outcome: 'stale' }
      return store.readFactors(attempt)
    },

    async settleAttempt(settlement) {
      const { token, now, generation } = settlement
      if (token === null) return store.settleAttempt(settlement)
      if (token.generation !== generation) return { outcome: 'stale' }
      // A wrong code must not make a right one beside it stale. Either way it is one request to Redis.
      const { method } = settlement
      const isWrong = method === 'recovery_password' || (method === 'totp' && settlement.match === null)
      if (isWrong ? await isBurnt(token.tokenId) : !(await burn(token, now))) return { outcome: 'stale' }
      const settled = await store.settleAttempt({ ...settlement, token: null })
      if (isWrong) return settled
      if (settled.outcome !== 'spent') await giveBack(token)
      return settled
    },

    async removeFactors(removal) {
      const { token, now, generation } = removal
      if (token === null) return store.removeFactors(removal)
      if (token.generation !== generation || !(await burn(token, now))) return { outcome: 'stale' }
      const removed = await store.removeFactors(removal)
      if (removed.outcome !== 'removed') await giveBack(token)
      return removed
    },

    consumeToken: burn,

    async countCall({ keyDigest, windowSeconds, now }) {
      const key = `${prefix}calls:${keyDigest}`
      const reply = await send(['EVAL', COUNT_CALL, '1', key, String(now), String(windowSeconds)])
      const [calls, endsAt] = reply as [number, number]
      return { calls: Number(calls), endsAt: Number(endsAt) }
    },
  }
}
