import assert from 'node:assert/strict'
import type { TotpStore } from 'totp-kit'
import { TotpError } from 'totp-kit'
import { type MysqlConnection, type MysqlStore, mysqlStore } from 'totp-kit/store/mysql'
import { type PostgresClient, type PostgresStore, postgresStore } from 'totp-kit/store/postgres'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { failClosed } from '../src/flows/context.ts'
import { activate, byCode, enroll, limits, noon, pending } from '../src/testing/store-fixtures.ts'
import { mysqlPool, postgresPool, services } from './services.ts'

interface Connection {
  query(sql: string): Promise<unknown>
  release(): void
}

interface Host {
  store: PostgresStore | MysqlStore
  /** A connection of the host's pool. */
  connect(): Promise<Connection>
  within(connection: Connection, options?: { deadlineMs?: number; signal?: AbortSignal }): TotpStore
  /** How many statements wait for a lock. */
  waiting(): Promise<number>
  orders(): Promise<number>
  drop(): Promise<void>
}

const CREATE_ORDERS = 'CREATE TABLE orders (id INTEGER NOT NULL)'

const hosts = [
  {
    name: 'PostgreSQL',
    isThere: services.postgres,
    // REPEATABLE READ would refuse the lock: "could not serialize access".
    snapshot: 'BEGIN',
    async make(): Promise<Host> {
      const { pool, drop } = await postgresPool()
      const store = postgresStore(pool)
      await store.migrate()
      await pool.query(CREATE_ORDERS)
      return {
        store,
        connect: () => pool.connect(),
        within: (connection, options) => store.within(connection as unknown as PostgresClient, options),
        async waiting() {
          const { rows } = await pool.query(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
          )
          return Number(rows[0]?.n)
        },
        orders: async () => Number((await pool.query('SELECT count(*) AS n FROM orders')).rows[0]?.n),
        drop,
      }
    },
  },
  {
    name: 'MariaDB',
    isThere: services.mysql,
    snapshot: 'START TRANSACTION',
    async make(): Promise<Host> {
      const { pool, drop } = await mysqlPool()
      const store = mysqlStore(pool)
      await store.migrate()
      await pool.query(CREATE_ORDERS)
      return {
        store,
        connect: () => pool.getConnection(),
        within: (connection, options) => store.within(connection as unknown as MysqlConnection, options),
        async waiting() {
          const [rows] = await pool.query(
            // The table is made anew when it was not read for 0.1 s.
            'SELECT count(*) AS n FROM (SELECT SLEEP(0.12)) AS pause, information_schema.innodb_trx WHERE trx_state = "LOCK WAIT"',
          )
          return Number((rows as { n: number }[])[0]?.n)
        },
        async orders() {
          const [rows] = await pool.query('SELECT count(*) AS n FROM orders')
          return Number((rows as { n: number }[])[0]?.n)
        },
        drop,
      }
    },
  },
]

const isUnavailable = (error: unknown) => error instanceof TotpError && error.code === 'unavailable'

for (const { name, isThere, make, snapshot } of hosts) {
  describe.skipIf(!isThere)(`a host's transaction that ends early on ${name}`, () => {
    let host: Host
    beforeAll(async () => {
      host = await make()
    })
    afterAll(() => host.drop())

    const disable = (store: TotpStore, userId: string) =>
      failClosed(store, () => undefined).removeFactors({
        userId,
        generation: 1,
        token: null,
        keepFamilyId: null,
        now: noon + 60,
        limits,
      })

    const whole = async (userId: string) => {
      const { user, authenticators, backupCodesRemaining } = await host.store.getStatus(userId, noon + 60, limits)
      return {
        generation: user.generation,
        isOn: user.confirmedAt !== null,
        authenticators: authenticators.length,
        codes: backupCodesRemaining,
      }
    }
    const UNTOUCHED = { generation: 1, isOn: true, authenticators: 1, codes: 2 }

    /** A user with 2FA on, whose row another transaction holds until `free` is called. */
    async function held(userId: string) {
      await enroll(host.store, { userId, codes: [`${userId} a`, `${userId} b`] })
      const holder = await host.connect()
      await holder.query('BEGIN')
      await holder.query(`SELECT 1 FROM totp_user WHERE user_id = '${userId}' FOR UPDATE`)
      return {
        async free() {
          await holder.query('ROLLBACK')
          holder.release()
        },
      }
    }

    const untilWaiting = async () => {
      while ((await host.waiting()) === 0);
    }

    test('nothing is sent after the deadline: what the host rolls back then has not happened', async () => {
      const { free } = await held('ann')
      const connection = await host.connect()
      await connection.query('BEGIN')

      await assert.rejects(disable(host.within(connection, { deadlineMs: 200 }), 'ann'), isUnavailable)
      const rolledBack = connection.query('ROLLBACK')
      await free()
      await rolledBack
      connection.release()

      assert.deepEqual(await whole('ann'), UNTOUCHED)
    })

    test('a host that commits after the deadline commits nothing of the call that was refused', async () => {
      await enroll(host.store, { userId: 'bea', codes: ['bea a', 'bea b'] })
      const holder = await host.connect()
      await holder.query('BEGIN')
      // The call locks the user and deletes the authenticator before it waits for this.
      await holder.query("SELECT 1 FROM totp_backup_code WHERE user_id = 'bea' FOR UPDATE")
      const connection = await host.connect()
      await connection.query('BEGIN')
      await connection.query('INSERT INTO orders VALUES (1)')

      await assert.rejects(disable(host.within(connection, { deadlineMs: 300 }), 'bea'), isUnavailable)
      const committed = connection.query('COMMIT')
      await holder.query('ROLLBACK')
      holder.release()
      await committed
      connection.release()

      assert.deepEqual(await whole('bea'), UNTOUCHED)
      assert.equal(await host.orders(), 1)
    })

    test.each([
      'COMMIT',
      'commit',
      '/* a */ /* b */ COMMIT',
      '-- the end\nCOMMIT',
      ...(name === 'PostgreSQL' ? ['INSERT INTO orders VALUES (3); COMMIT'] : ['# the end\nCOMMIT']),
    ])('a host that commits without waiting for the call commits all of it or nothing: %j', async (commit) => {
      const userId = `ivy ${commit}`
      await enroll(host.store, { userId, codes: [`${userId} a`, `${userId} b`] })
      const holder = await host.connect()
      await holder.query('BEGIN')
      // The call locks the user and deletes the authenticator before it waits for this.
      await holder.query(`SELECT 1 FROM totp_backup_code WHERE user_id = '${userId}' FOR UPDATE`)
      const connection = await host.connect()
      await connection.query('BEGIN')

      const refused = assert.rejects(disable(host.within(connection), userId), isUnavailable)
      await untilWaiting()
      const committed = connection.query(commit)
      await holder.query('ROLLBACK')
      holder.release()
      await committed
      connection.release()
      await refused

      assert.deepEqual(await whole(userId), UNTOUCHED)
    })

    test('an operation of one statement is undone too when it waits at the deadline', async () => {
      const user = await enroll(host.store, { userId: 'jon', codes: ['jon a', 'jon b'] })
      const holder = await host.connect()
      await holder.query('BEGIN')
      await holder.query("SELECT 1 FROM totp_backup_code WHERE user_id = 'jon' FOR UPDATE")
      const connection = await host.connect()
      await connection.query('BEGIN')

      const inside = host.within(connection, { deadlineMs: 300 })
      await assert.rejects(inside.settleAttempt(byCode(user, ['jon a'])), /did not end within/)
      const committed = connection.query('COMMIT')
      await holder.query('ROLLBACK')
      holder.release()
      await committed
      connection.release()

      assert.deepEqual(await whole('jon'), UNTOUCHED)
    })

    test('a statement behind many comments is read in no time', async () => {
      const connection = await host.connect()
      await connection.query('BEGIN')
      const inside = host.within(connection)
      await connection.query(`${'/**/'.repeat(200)}SELECT 1`)
      await inside.getUser('kim')
      await connection.query('ROLLBACK')
      connection.release()
    })

    test('nothing is sent on a connection that the host has rolled back and lent on without waiting for the call', async () => {
      const { free } = await held('cid')
      const ordersBefore = await host.orders()
      const connection = await host.connect()
      await connection.query('BEGIN')

      const refused = assert.rejects(disable(host.within(connection), 'cid'), isUnavailable)
      await untilWaiting()
      // The same object is what the pool lends to the next one.
      const next = [connection.query('ROLLBACK'), connection.query('BEGIN')]
      next.push(connection.query('INSERT INTO orders VALUES (2)'))
      await free()
      await Promise.all(next)
      await refused
      await connection.query('COMMIT')
      connection.release()

      assert.deepEqual(await whole('cid'), UNTOUCHED)
      assert.equal(await host.orders(), ordersBefore + 1)
    })

    test('nothing is sent after the signal was aborted', async () => {
      const { free } = await held('dan')
      const connection = await host.connect()
      await connection.query('BEGIN')
      const abort = new AbortController()

      const refused = assert.rejects(disable(host.within(connection, { signal: abort.signal }), 'dan'), isUnavailable)
      await untilWaiting()
      abort.abort()
      await refused
      const rolledBack = connection.query('ROLLBACK')
      await free()
      await rolledBack
      connection.release()

      assert.deepEqual(await whole('dan'), UNTOUCHED)
      const other = await host.connect()
      await other.query('BEGIN')
      await assert.rejects(host.within(other, { signal: abort.signal }).getUser('dan'), /aborted by the signal/)
      await other.query('ROLLBACK')
      other.release()
    })

    test('a call after the commit, or after the connection was given back, is refused and changes nothing', async () => {
      await enroll(host.store, { userId: 'eli', codes: ['eli a', 'eli b'] })
      const connection = await host.connect()
      await connection.query('BEGIN')
      const committed = host.within(connection)
      await connection.query('COMMIT')
      await connection.query('BEGIN')
      const givenBack = host.within(connection)
      await connection.query('ROLLBACK')
      connection.release()

      for (const inside of [committed, givenBack]) {
        await assert.rejects(inside.raiseGeneration('eli', noon), /has already ended/)
        await assert.rejects(inside.getUser('eli'), /has already ended/)
      }

      assert.deepEqual(await whole('eli'), UNTOUCHED)
    })

    test('a call where no transaction is open is refused and changes nothing', async () => {
      await enroll(host.store, { userId: 'lea', codes: ['lea a', 'lea b'] })
      const connection = await host.connect()
      const never = host.within(connection)
      await assert.rejects(never.raiseGeneration('lea', noon))
      await assert.rejects(never.clearFailures('lea'))
      if (name === 'MariaDB') {
        await connection.query('START TRANSACTION')
        const inside = host.within(connection)
        // Commits on its way (§13.3.3 of the MySQL manual).
        await connection.query('CREATE TABLE ddl (id INTEGER)')
        await assert.rejects(disable(inside, 'lea'), isUnavailable)
      }
      connection.release()

      assert.deepEqual(await whole('lea'), UNTOUCHED)
    })

    test('two calls at once take turns: what the one undoes is not what the other has done', async () => {
      const user = await enroll(host.store, { userId: 'fay' })
      const connection = await host.connect()
      await connection.query('BEGIN')
      const inside = host.within(connection)
      const broken = pending('second phone of fay', { sealedSecret: null as unknown as string })

      const calls = await Promise.allSettled([
        inside.putPending('fay', broken, user.generation, limits),
        inside.raiseGeneration('fay', noon + 60),
        host.within(connection).putPending('fay', broken, user.generation + 1, limits),
      ])
      await connection.query('COMMIT')
      connection.release()

      assert.deepEqual(
        calls.map(({ status }) => status),
        ['rejected', 'fulfilled', 'rejected'],
      )
      assert.equal((await host.store.getUser('fay')).generation, user.generation + 1)
    })

    test('no more authenticators than allowed, whatever the transaction saw first', async () => {
      const first = await enroll(host.store, { userId: 'gus' })
      const connection = await host.connect()
      await connection.query(snapshot)
      await connection.query('SELECT count(*) FROM totp_authenticator')
      await host.store.putPending('gus', pending('second of gus'), first.generation, limits)
      await activate(host.store, {
        userId: 'gus',
        authenticatorId: 'second of gus',
        generation: first.generation,
        maxAuthenticators: 2,
      })
      await host.store.putPending('gus', pending('third of gus'), first.generation + 1, limits)

      const outcome = await activate(host.within(connection), {
        userId: 'gus',
        authenticatorId: 'third of gus',
        generation: first.generation + 1,
        maxAuthenticators: 2,
      })
      await connection.query('COMMIT')
      connection.release()

      assert.equal(outcome, 'replaced')
      assert.equal((await host.store.getStatus('gus', noon, limits)).authenticators.length, 2)
    })

    test('a deadline that is none is refused', async () => {
      const connection = await host.connect()
      for (const deadlineMs of [0, -1, 9001, 1.5, Number.NaN]) {
        assert.throws(() => host.within(connection, { deadlineMs }), RangeError)
      }
      connection.release()
    })

    test('the connection goes back to the pool as it came', async () => {
      const connection = await host.connect()
      const inner = (
        name === 'MariaDB' ? (connection as unknown as { connection: object }).connection : connection
      ) as {
        listenerCount(event: string): number
      }
      const own = () => Object.keys(inner).filter((key) => ['query', 'execute', 'end', 'destroy'].includes(key))
      const before = { methods: own(), listeners: inner.listenerCount('error') }
      await connection.query('BEGIN')
      await host.within(connection).getUser('hal')
      assert.notDeepEqual(own(), before.methods)
      if (name === 'PostgreSQL') assert.equal(inner.listenerCount('error'), before.listeners + 1)
      await connection.query('COMMIT')
      connection.release()

      assert.deepEqual(own(), before.methods)
      // The pool's own listener is back, and ours is gone.
      if (name === 'PostgreSQL') assert.equal(inner.listenerCount('error'), before.listeners + 1)
    })
  })
}
