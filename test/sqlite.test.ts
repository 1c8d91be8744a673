import assert from 'node:assert/strict'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isMainThread } from 'node:worker_threads'
import { openSqlite, type SqliteDatabase, sqliteStore } from 'totp-kit/store/sqlite'
import { afterEach, beforeEach, describe, test } from 'vitest'
import { migrations } from '../src/store/sql/migrations.ts'
import { statementsFor } from '../src/store/sql/statements.ts'
import { tablesOf } from '../src/store/sql/tables.ts'
import {
  activate,
  attempt,
  backupCodes,
  begin,
  byCode,
  byStep,
  challengeOf,
  device,
  enroll,
  fail,
  firstStep,
  limits,
  noon,
  pending,
  wrong,
} from '../src/testing/store-fixtures.ts'

let directory: string
let path: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'totp-kit-sqlite-'))
  path = join(directory, 'totp.db')
})
afterEach(async () => {
  await rm(directory, { recursive: true })
})

describe('opening', () => {
  test('connections that open a new file at once make one schema', async () => {
    const stores = await Promise.all(Array.from({ length: 8 }, () => sqliteStore(path)))
    for (const store of stores) await store.raiseGeneration('ann', noon)

    const database = await openSqlite(path)
    assert.deepEqual(rows(database, 'SELECT count(*) AS n FROM totp_migration'), [{ n: migrations.length }])
    assert.equal((await stores[0]?.getUser('ann'))?.generation, 8)
    for (const store of stores) await store.close()
    database.close()
  })

  test('what was stored is there after the file is opened again', async () => {
    const before = await sqliteStore(path)
    const user = await enroll(before)
    await before.settleAttempt(byStep(user, firstStep + 1, { token: challengeOf(user) }))
    await fail(before, {}, 4)
    await before.keepKeyCheck('canary')
    const status = await before.getStatus('ann', noon, limits)
    await before.close()

    const after = await sqliteStore(path)

    assert.deepEqual(await after.getStatus('ann', noon, limits), status)
    assert.equal((await after.settleAttempt(byStep(user, firstStep + 1))).outcome, 'spent_before')
    assert.equal(await after.isTokenUnused('challenge'), false)
    assert.equal(await after.keepKeyCheck('another'), 'canary')
    await after.close()
  })

  test('a file is in WAL mode, so that readers and a writer do not wait for each other', async () => {
    const database = await openSqlite(path)

    assert.deepEqual(rows(database, 'PRAGMA journal_mode'), [{ journal_mode: 'wal' }])
    database.close()
  })

  test('a database that a later version made is refused and left as it is', async () => {
    await (await sqliteStore(path)).close()
    const database = await openSqlite(path)
    database.exec(`INSERT INTO totp_migration (version) VALUES (${migrations.length + 1})`)

    await assert.rejects(sqliteStore(path), {
      message: `the totp-kit tables are at version ${migrations.length + 1}, this version of totp-kit needs ${migrations.length}: install the later version of totp-kit`,
    })

    assert.deepEqual(rows(database, 'SELECT count(*) AS n FROM totp_migration'), [{ n: migrations.length + 1 }])
    database.close()
  })

  test('a migration that fails leaves nothing behind', async () => {
    const database = await openSqlite(path)
    database.exec('CREATE TABLE totp_canary (of TEXT)')

    await assert.rejects(sqliteStore(database), /the totp-kit tables lack totp_user\.user_id/)

    assert.deepEqual(rows(database, "SELECT name FROM sqlite_schema WHERE type = 'table'"), [{ name: 'totp_canary' }])
    database.close()
  })

  test('a path in a directory that is not there is told, and which one', async () => {
    const missing = join(directory, 'missing', 'totp.db')

    await assert.rejects(sqliteStore(missing), saying(`the SQLite database ${missing} cannot be opened for writing: `))
  })

  test('a path that is a directory is told', async () => {
    const expected = `the SQLite database ${directory} cannot be opened for writing: `

    await assert.rejects(sqliteStore(directory), saying(expected))
  })

  test('a file that is not a database is told', async () => {
    await writeFile(path, 'not a database, '.repeat(100))

    const expected = `the SQLite database ${path} cannot be opened for writing: file is not a database`
    await assert.rejects(sqliteStore(path), saying(expected))
  })

  // A thread cannot give up its privileges; Stryker runs tests in threads.
  test.skipIf(!isMainThread)('a file that may only be read is told', async () => {
    await writeFile(path, '')
    await chmod(path, 0o444)
    await chmod(directory, 0o555)

    const expected = `the SQLite database ${path} cannot be opened for writing: attempt to write a readonly database`
    await withoutPrivileges(() => assert.rejects(sqliteStore(path), saying(expected)))

    await chmod(directory, 0o755)
  })

  test('a database that may only be read is told, also when it is up to date', async () => {
    await (await sqliteStore(path)).close()
    const database = await openSqlite(path)
    database.exec('PRAGMA query_only = ON')

    await assert.rejects(sqliteStore(database), /attempt to write a readonly database/)
    database.close()
  })
})

describe('closing', () => {
  test("a host's own connection stays open", async () => {
    const database = await openSqlite(path)
    const store = await sqliteStore(database)
    await store.raiseGeneration('ann', noon)

    await store.close()

    assert.deepEqual(rows(database, 'SELECT generation FROM totp_user'), [{ generation: 1 }])
    assert.equal((await (await sqliteStore(database)).getUser('ann')).generation, 1)
    database.close()
  })

  test('a closed store throws; it does not say that there is nothing', async () => {
    const store = await sqliteStore(path)
    await store.close()

    await assert.rejects(store.getUser('ann'))
    await assert.rejects(store.getStatus('ann', noon, limits))
    await assert.rejects(store.readFactors(attempt()))
    await assert.rejects(store.settleAttempt(wrong()))
    await assert.rejects(store.listBackupCodes('ann'))
    await assert.rejects(store.isTokenUnused('token'))
    await assert.rejects(store.isFamilyAlive('family', null, noon))
    await assert.rejects(store.endFamily('family'))
    await assert.rejects(store.keepKeyCheck('canary'))
  })
})

describe('while another connection has the file locked', () => {
  test('an operation waits, and the event loop runs meanwhile: the lock may be of this process', async () => {
    const store = await sqliteStore(path)
    const host = await openSqlite(path)
    const order: string[] = []
    host.exec('BEGIN IMMEDIATE')

    const write = store.raiseGeneration('ann', noon).then(() => order.push('raised'))
    const single = store.clearFailures('ann').then(() => order.push('cleared'))
    // A host's transaction that stays open across an await.
    await new Promise((resolve) => setTimeout(resolve, 50))
    order.push('committed')
    host.exec('COMMIT')
    await Promise.all([write, single])

    assert.deepEqual(order.slice(0, 1), ['committed'])
    assert.equal((await store.getUser('ann')).generation, 1)
    await store.close()
    host.close()
  })

  test('a spending of a code waits as long as a transaction of the host, and timers run meanwhile', async () => {
    const store = await sqliteStore(path)
    const user = await enroll(store)
    const host = await openSqlite(path)
    let ticks = 0
    let isAnswered = false
    const timer = setInterval(() => ticks++, 5)
    host.exec('BEGIN IMMEDIATE')

    const settled = store.settleAttempt(byStep(user, firstStep + 1)).finally(() => {
      isAnswered = true
    })
    await new Promise((resolve) => setTimeout(resolve, 50))
    const before = { ticks, isAnswered }
    host.exec('COMMIT')
    const { outcome } = await settled
    clearInterval(timer)

    assert.equal(outcome, 'spent')
    assert.equal(before.isAnswered, false)
    assert.ok(before.ticks >= 2, `${before.ticks} ticks of 5 ms in 50 ms`)
    await store.close()
    host.close()
  })

  test('a store opens when it is free again, and the event loop runs meanwhile', async () => {
    const host = await openSqlite(path)
    host.exec('BEGIN IMMEDIATE')

    const opening = sqliteStore(path)
    await new Promise((resolve) => setTimeout(resolve, 20))
    host.exec('COMMIT')

    await (await opening).close()
    host.close()
  })

  test('an operation gives up after five seconds and has done nothing', async () => {
    const store = await sqliteStore(path)
    const host = await openSqlite(path)
    host.exec('BEGIN IMMEDIATE')

    await assert.rejects(store.raiseGeneration('ann', noon), /locked/)

    host.exec('ROLLBACK')
    assert.equal((await store.getUser('ann')).generation, 0)
    await store.close()
    host.close()
  })
})

describe('writes that are due at once', () => {
  /** A connection that notes how each transaction begins and ends. */
  async function noting(): Promise<{ database: SqliteDatabase; transactions: string[] }> {
    const database = await openSqlite(path)
    const transactions: string[] = []
    const exec = database.exec.bind(database)
    database.exec = (sql) => {
      if (/^(BEGIN|COMMIT|ROLLBACK$)/.test(sql)) transactions.push(sql)
      return exec(sql)
    }
    return { database, transactions }
  }

  test('share one transaction, and are answered after its commit, in order of arrival', async () => {
    const { database, transactions } = await noting()
    const store = await sqliteStore(database)
    transactions.length = 0
    const answered: string[] = []
    const users = ['ann', 'bob', 'cleo', 'dan']

    await Promise.all(
      users.map(async (user) => {
        await store.raiseGeneration(user, noon)
        answered.push(`${user} after ${transactions.join(', ')}`)
      }),
    )

    assert.deepEqual(
      answered,
      users.map((user) => `${user} after BEGIN IMMEDIATE, COMMIT`),
    )
    database.close()
  })

  test('and one of them that fails: it fails alone', async () => {
    const { database, transactions } = await noting()
    const store = await sqliteStore(database)
    const { generation } = await enroll(store, { codes: ['a'] })
    transactions.length = 0

    const [raised, replaced, wrongCode] = await Promise.allSettled([
      store.raiseGeneration('bob', noon),
      store.replaceBackupCodes('ann', backupCodes(['same', 'same']), generation),
      store.settleAttempt(wrong()),
    ])

    assert.deepEqual(transactions, ['BEGIN IMMEDIATE', 'COMMIT'])
    assert.equal(raised.status, 'fulfilled')
    assert.match(String(replaced.status === 'rejected' && replaced.reason), /UNIQUE/)
    assert.equal(wrongCode.status === 'fulfilled' && wrongCode.value.outcome, 'wrong')
    assert.equal((await store.getUser('bob')).generation, 1)
    assert.deepEqual(await store.listBackupCodes('ann'), [{ sealedCode: 'sealed a', usedAt: null }])
    assert.equal((await store.getFailureBudget('ann', 'totp', noon, limits)).consecutive, 1)
    database.close()
  })

  test('and a commit that fails: all of them fail, and none is done', async () => {
    const { database, transactions } = await noting()
    const store = await sqliteStore(database)
    await enroll(store)
    database.exec(`
      PRAGMA foreign_keys = ON;
      CREATE TABLE account (id TEXT PRIMARY KEY);
      CREATE TABLE audit (account TEXT REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED);
      CREATE TRIGGER record AFTER INSERT ON totp_user BEGIN INSERT INTO audit VALUES (new.user_id); END`)
    transactions.length = 0

    const answers = await Promise.allSettled([store.settleAttempt(wrong()), store.raiseGeneration('bob', noon)])

    assert.deepEqual(transactions, ['BEGIN IMMEDIATE', 'COMMIT', 'ROLLBACK'])
    for (const answer of answers) assert.match(String(answer.status === 'rejected' && answer.reason), /FOREIGN KEY/)
    assert.equal((await store.getFailureBudget('ann', 'totp', noon, limits)).consecutive, 0)
    assert.equal((await store.getUser('bob')).generation, 0)
    database.close()
  })
})

describe('when SQLite fails', () => {
  test('an operation that fails half-way has done nothing, and the next one works', async () => {
    const store = await sqliteStore(path)
    const user = await enroll(store, { codes: ['a', 'b'] })
    await store.putPending('ann', pending('new'), user.generation, limits)
    const before = await store.getStatus('ann', noon, limits)
    const twice = backupCodes(['same', 'same'])

    await assert.rejects(store.replaceBackupCodes('ann', twice, user.generation), /UNIQUE/)
    await assert.rejects(
      activate(store, { authenticatorId: 'new', generation: user.generation, backupCodes: twice }),
      /UNIQUE/,
    )

    assert.deepEqual(await store.getStatus('ann', noon, limits), before)
    assert.equal((await store.settleAttempt(byCode(user, ['a']))).outcome, 'spent')
    await store.close()
  })

  test('an attempt that cannot be counted is not settled', async () => {
    const [database, other] = [await openSqlite(path), await openSqlite(path)]
    const store = await sqliteStore(database)
    await enroll(store)
    database.exec('PRAGMA busy_timeout = 0')
    other.exec('BEGIN IMMEDIATE')

    await assert.rejects(store.settleAttempt(wrong()), /locked/)

    other.exec('ROLLBACK')
    await fail(store, {}, 5)
    for (const connection of [database, other]) connection.close()
  })

  test('a commit that fails has done nothing, and the next operation works', async () => {
    const database = await openSqlite(path)
    const store = await sqliteStore(database)
    database.exec(`
      PRAGMA foreign_keys = ON;
      CREATE TABLE account (id TEXT PRIMARY KEY);
      CREATE TABLE audit (account TEXT REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED);
      CREATE TRIGGER record AFTER INSERT ON totp_user BEGIN INSERT INTO audit VALUES (new.user_id); END`)

    await assert.rejects(store.raiseGeneration('ann', noon), /FOREIGN KEY/)

    assert.equal((await store.getUser('ann')).generation, 0)
    database.exec("INSERT INTO account VALUES ('ann')")
    await store.raiseGeneration('ann', noon)
    assert.equal((await store.getUser('ann')).generation, 1)
    database.close()
  })
})

describe('growth', () => {
  test('every statement finds its rows by an index', async () => {
    const database = await openSqlite(':memory:')
    await sqliteStore(database)

    const scans = Object.values(statementsFor('sqlite', tablesOf())).flatMap(({ name, text }) =>
      rows(database, `EXPLAIN QUERY PLAN ${text}`)
        .map(({ detail }) => `${name}: ${detail}`)
        // The ids that are asked for are scanned, and subqueries of one row (`o`, `l`, `m`, `n`, `v`), not a table; and at the
        // start the schema, which has no rows of users.
        .filter(
          (detail) => detail.includes('SCAN') && !/SCAN (json_each|CONSTANT ROW|[olmnv]$)|listColumns/.test(detail),
        ),
    )

    assert.deepEqual(scans, [])
    database.close()
  })

  test('families and devices that end leave no row', async () => {
    const database = await openSqlite(path)
    const store = await sqliteStore(database)
    for (const id of ['kept', 'ended', 'outdated']) await begin(store, id)
    await store.endFamily('ended')
    await store.keepTrustedDevice(device('laptop'), 0)
    await store.putPending('ann', pending('phone'), 0, limits)

    await activate(store, { authenticatorId: 'phone', generation: 0, keepFamilyId: 'kept' })

    assert.deepEqual(rows(database, 'SELECT id FROM totp_refresh_family'), [{ id: 'kept' }])
    assert.deepEqual(rows(database, 'SELECT id FROM totp_trusted_device'), [])
    database.close()
  })
})

function rows(database: SqliteDatabase, sql: string): Record<string, unknown>[] {
  const parameters = Object.fromEntries(Array.from(sql.matchAll(/:(\w+)/g), ([, name]) => [String(name), null]))
  return database
    .prepare(sql)
    .all(parameters)
    .map((row) => ({ ...(row as Record<string, unknown>) }))
}

function saying(start: string): (error: Error) => boolean {
  return ({ message }) => {
    assert.equal(message.slice(0, start.length), start)
    return true
  }
}

/** Root may write to everything, so as root this runs as the user "nobody". */
async function withoutPrivileges(work: () => Promise<void>): Promise<void> {
  if (process.getuid?.() !== 0) return work()
  process.seteuid?.(65_534)
  try {
    await work()
  } finally {
    process.seteuid?.(0)
  }
}
