import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createTotp, generateFernetKey, type TotpStore } from 'totp-kit'
import { fetchTotp } from 'totp-kit/fetch'
import { memoryStore } from 'totp-kit/store/memory'
import { mysqlStore } from 'totp-kit/store/mysql'
import { postgresStore } from 'totp-kit/store/postgres'
import { openSqlite, sqliteStore } from 'totp-kit/store/sqlite'
import ts from 'typescript'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { migrations } from '../src/store/sql/migrations.ts'
import { byStep, enroll, firstStep } from '../src/testing/store-fixtures.ts'
import { mysqlPool, postgresPool, services } from './services.ts'

const CLI = new URL('../dist/cli/index.js', import.meta.url).pathname

interface Run {
  exitCode: number
  stdout: string
  stderr: string
}

/** Runs the built command in a process of its own, with these variables and no others. */
function totpKit(args: readonly string[], env: Record<string, string> = {}): Promise<Run> {
  return new Promise((resolve) => {
    const options = { env: { PATH: process.env.PATH ?? '', ...env }, timeout: 15_000 }
    const child = execFile(process.execPath, [CLI, ...args], options, (_, stdout, stderr) => {
      resolve({ exitCode: child.exitCode ?? -1, stdout, stderr })
    })
  })
}

const UP_TO_DATE = { exitCode: 0, stdout: 'The tables are up to date.\n', stderr: '' }

/** Enrolls somebody and spends a code: touches users, authenticators, codes, failures and families. */
async function works(store: TotpStore, userId: string): Promise<void> {
  const user = await enroll(store, { userId })
  assert.equal((await store.settleAttempt(byStep(user, firstStep + 1))).outcome, 'spent')
}

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'totp-kit-cli-'))
})
afterAll(() => rm(directory, { recursive: true }))

test('keygen prints a key that createTotp takes, and another one each time', async () => {
  const [first, second] = await Promise.all([totpKit(['keygen']), totpKit(['keygen'])])

  assert.match(first.stdout, /^[\w-]{43}=\n$/)
  assert.notEqual(first.stdout, second.stdout)
  assert.deepEqual({ exitCode: first.exitCode, stderr: first.stderr }, { exitCode: 0, stderr: '' })
  await createTotp({ issuer: 'Acme', encryptionKey: first.stdout.trim(), store: memoryStore() })
})

test('help is printed when it is asked for, and when nothing is', async () => {
  for (const args of [[], ['--help'], ['migrate', '-h']]) {
    const { exitCode, stdout } = await totpKit(args)

    assert.equal(exitCode, 0)
    for (const command of ['keygen', 'migrate', 'schema', 'openapi'])
      assert.ok(stdout.includes(`totp-kit ${command}`), command)
  }
})

describe.concurrent('migrate', () => {
  test('makes the tables of an SQLite file; the second time it does nothing', async () => {
    const path = join(directory, 'migrate.db')

    assert.deepEqual(await totpKit(['migrate', '--database-url', `sqlite:${path}`]), UP_TO_DATE)
    const database = await openSqlite(path)
    const versionOf = () => database.prepare('PRAGMA schema_version').all({})
    const version = versionOf()
    assert.deepEqual(await totpKit(['migrate'], { DATABASE_URL: `sqlite:${path}` }), UP_TO_DATE)

    assert.deepEqual(versionOf(), version)
    await works(await sqliteStore(database), 'ann')
    assert.deepEqual(versionOf(), version)
    database.close()
  })

  test.skipIf(!services.postgres)(
    'makes the tables of a PostgreSQL database; the second time it does nothing',
    async () => {
      const { pool, url, drop } = await postgresPool()
      const args = ['migrate', '--database-url', url, '--schema', 'auth', '--prefix', 'mfa_']
      const store = postgresStore(pool, { schema: 'auth', prefix: 'mfa_' })
      const tables = "SELECT oid, relname FROM pg_class WHERE relnamespace = 'auth'::regnamespace ORDER BY oid"

      assert.deepEqual(await totpKit(args), UP_TO_DATE)
      await works(store, 'ann')
      const before = (await pool.query(tables)).rows
      assert.deepEqual(await totpKit(args), UP_TO_DATE)

      assert.deepEqual((await pool.query(tables)).rows, before)
      assert.equal((await store.getUser('ann')).generation, 1)
      await drop()
    },
  )

  test.skipIf(!services.mysql)('makes the tables of a MariaDB database; the second time it does nothing', async () => {
    const { pool, url, drop } = await mysqlPool()
    const store = mysqlStore(pool)

    assert.deepEqual(await totpKit(['migrate', '--database-url', url]), UP_TO_DATE)
    await works(store, 'ann')
    assert.deepEqual(await totpKit(['migrate', '--database-url', url.replace('mysql:', 'mariadb:')]), UP_TO_DATE)

    assert.deepEqual((await pool.query('SELECT count(*) AS n FROM totp_migration WHERE version > 0'))[0], [
      { n: migrations.length },
    ])
    assert.equal((await store.getUser('ann')).generation, 1)
    await drop()
  })

  test.skipIf(!services.postgres)('ten processes that begin at once make one set of tables', async () => {
    const { pool, url, drop } = await postgresPool()
    const args = ['migrate', '--database-url', url, '--schema', 'auth']

    const runs = await Promise.all(Array.from({ length: 10 }, () => totpKit(args)))

    assert.deepEqual(runs, Array(10).fill(UP_TO_DATE))
    const { rows } = await pool.query('SELECT count(*)::int AS n FROM auth.totp_migration')
    assert.deepEqual(rows, [{ n: migrations.length }])
    await works(postgresStore(pool, { schema: 'auth' }), 'ann')
    await drop()
  })
})

describe.concurrent('schema', () => {
  const schemaOf = async (...args: string[]) => {
    const { exitCode, stdout, stderr } = await totpKit(['schema', '--dialect', ...args])
    assert.deepEqual({ exitCode, stderr }, { exitCode: 0, stderr: '' })
    return stdout
  }

  test('for sqlite makes tables that a store works on, with nothing left to migrate', async () => {
    const database = await openSqlite(join(directory, 'schema.db'))

    database.exec(await schemaOf('sqlite', '--prefix', 'mfa_'))

    const version = database.prepare('PRAGMA schema_version').all({})
    await works(await sqliteStore(database, { prefix: 'mfa_' }), 'ann')
    assert.deepEqual(database.prepare('PRAGMA schema_version').all({}), version)
    database.close()
  })

  test.skipIf(!services.postgres)(
    'for postgres makes tables that a store works on, with nothing left to migrate',
    async () => {
      const { pool, drop } = await postgresPool()
      const tables = "SELECT oid, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY oid"

      await pool.query(await schemaOf('postgres'))

      const store = postgresStore(pool)
      await works(store, 'ann')
      const before = (await pool.query(tables)).rows
      await store.migrate()
      assert.deepEqual((await pool.query(tables)).rows, before)
      await drop()
    },
  )

  test.skipIf(!services.mysql)(
    'for mysql makes tables that a store works on, with nothing left to migrate',
    async () => {
      const { pool, drop } = await mysqlPool()

      for (const statement of (await schemaOf('mysql')).split(';\n').filter((text) => text.trim() !== '')) {
        await pool.query(statement)
      }

      const store = mysqlStore(pool)
      await works(store, 'ann')
      await store.migrate()
      assert.deepEqual((await pool.query('SELECT count(*) AS n FROM totp_migration'))[0], [{ n: migrations.length }])
      await drop()
    },
  )

  for (const [dialect, table] of [
    ['sqlite', 'sqliteTable'],
    ['postgres', 'pgTable'],
    ['mysql', 'mysqlTable'],
  ] as const) {
    test(`for drizzle-${dialect} is TypeScript that imports what it calls, and no more`, async () => {
      const source = await schemaOf(`drizzle-${dialect}`)

      const { diagnostics } = ts.transpileModule(source, { reportDiagnostics: true })
      assert.deepEqual(diagnostics, [])
      const imported = /^import \{ (.+) \} from 'drizzle-orm\//.exec(source)?.[1]?.split(', ')
      const called = Array.from(source.matchAll(/(?<![.\w])([a-z]\w*)\((?!table\))/g), ([, name]) => String(name))
      assert.deepEqual([...new Set(called)].sort(), imported)
      assert.equal(called.filter((name) => name === table).length, 11)
    })

    test(`for prisma-${dialect} is a model with a key for each table, and nothing else`, async () => {
      const models = (await schemaOf(`prisma-${dialect}`)).trimEnd().split('\n\nmodel ')

      assert.equal(models.length, 11)
      const field = String.raw`  [a-z_]+ (String|BigInt|Bytes)\??( @default\(0\))?( @db\.\w+(\(\d+\))?)?\n`
      const index = String.raw`  @@index\(\[[a-z_]+\], map: "totp_[a-z_]+"\)\n`
      const form = new RegExp(
        String.raw`^Totp\w+ \{\n(${field})+\n  @@id\(\[[a-z_, ]+\]\)\n(${index})*  @@map\("totp_[a-z_]+"\)\n\}$`,
      )
      for (const model of models) assert.match(model.replace(/^model /, ''), form)
    })
  }
})

describe.concurrent('openapi', () => {
  const MODULES = ['totp', 'jwt', 'recovery'] as const

  test('prints the document that a service serves at totp/openapi.json', async () => {
    const options = { issuer: 'Acme', encryptionKey: generateFernetKey(), store: memoryStore() }
    const handler = fetchTotp(await createTotp(options), { caller: () => null, clientAddress: () => null })
    const served = await handler(new Request('http://service.test/api/totp/openapi.json'))

    const { exitCode, stdout, stderr } = await totpKit(['openapi', '--modules', 'totp', '--issuer', 'Acme'])

    assert.deepEqual({ exitCode, stderr }, { exitCode: 0, stderr: '' })
    assert.deepEqual(JSON.parse(stdout), await served.json())
  })

  test('prints a document whose operations are unique and whose references lead somewhere', async () => {
    const { stdout } = await totpKit(['openapi', '--base-path', '/auth/'])

    const document = JSON.parse(stdout)
    assert.equal(document.openapi, '3.1.0')
    assert.deepEqual(document.servers, [{ url: '/auth' }])
    const operations = Object.values<Record<string, { operationId: string; tags: string[]; responses: object }>>(
      document.paths,
    ).flatMap((item) => Object.values(item))
    assert.equal(new Set(operations.map(({ operationId }) => operationId)).size, operations.length)
    assert.deepEqual([...new Set(operations.flatMap(({ tags }) => tags))].sort(), [...MODULES].sort())
    for (const { operationId, responses } of operations) assert.ok(Object.keys(responses).length > 1, operationId)
    const references = new Set(Array.from(stdout.matchAll(/"\$ref":"([^"]+)"/g), ([, reference]) => String(reference)))
    assert.ok(references.size > 5)
    for (const reference of references) {
      const [, name] = /^#\/components\/schemas\/(\w+)$/.exec(reference) ?? []
      assert.ok(name && Object.hasOwn(document.components.schemas, name), reference)
    }
  })

  for (const module of MODULES) {
    test(`prints the operations of ${module} alone where it is the only module`, async () => {
      const { stdout } = await totpKit(['openapi', '--modules', module])

      const items = Object.values<Record<string, { tags: string[] }>>(JSON.parse(stdout).paths)
      const tags = items.flatMap((item) => Object.values(item).flatMap(({ tags }) => tags))
      assert.deepEqual([...new Set(tags)], [module])
    })
  }
})

describe.concurrent('what cannot be carried out', () => {
  const secret = 'geheim-7'
  const url = (scheme: string, host: string) => `${scheme}://ann:${secret}@${host}/app`
  /** A host name with two addresses, whatever this machine's own names have. */
  const twoAddresses = `--import=data:text/javascript,${encodeURIComponent(`import dns from 'node:dns'
    const found = ['127.0.0.1', '127.0.0.2'].map((address) => ({ address, family: 4 }))
    dns.lookup = (host, options, done) => done(null, found)`)}`
  const cases: Record<string, { args: string[]; env?: Record<string, string>; says: RegExp }> = {
    'an unknown command': { args: ['migrat'], says: /unknown command/ },
    'a URL in the place of a command': { args: [url('postgres', 'db')], says: /unknown command/ },
    'a URL without its option': {
      args: ['migrate', url('postgres', 'db')],
      env: { DATABASE_URL: 'sqlite::memory:' },
      says: /expected one command/,
    },
    'an unknown option': { args: ['migrate', `--url=${url('postgres', 'db')}`], says: /--url/ },
    'a migration of nothing': { args: ['migrate'], says: /--database-url, or set DATABASE_URL/ },
    'an unknown kind of database': { args: ['migrate', '--database-url', url('mssql', 'db')], says: /must start with/ },
    'a URL that cannot be read (PostgreSQL)': {
      args: ['migrate', '--database-url', url('postgres', 'db:x')],
      says: /./,
    },
    'a URL that cannot be read (MySQL)': { args: ['migrate', '--database-url', url('mysql', 'db:x')], says: /./ },
    'no PostgreSQL there': {
      args: ['migrate', '--database-url', url('postgres', 'localhost:1')],
      says: /ECONNREFUSED/,
    },
    'no PostgreSQL at any of two addresses': {
      args: ['migrate', '--database-url', url('postgres', 'db.example:1')],
      env: { NODE_OPTIONS: twoAddresses },
      says: /ECONNREFUSED/,
    },
    'no MySQL there': { args: ['migrate', '--database-url', url('mysql', 'localhost:1')], says: /ECONNREFUSED/ },
    'a file that cannot be made': { args: ['migrate', '--database-url', 'sqlite:/missing/totp.db'], says: /missing/ },
    'a file without a name': { args: ['migrate', '--database-url', 'sqlite:'], says: /must name a file/ },
    'a file without a name after slashes': {
      args: ['migrate', '--database-url', 'sqlite://'],
      says: /must name a file/,
    },
    'a document of an unknown module': {
      args: ['openapi', '--modules', 'totp,admin'],
      says: /--modules must be a comma-separated list of totp, jwt, recovery/,
    },
    'a schema in no dialect': { args: ['schema'], says: /--dialect must be one of sqlite, postgres, mysql/ },
    'a schema in an unknown dialect': {
      args: ['schema', '--dialect', 'oracle'],
      says: /--dialect must be one of sqlite/,
    },
    'a prefix that is too long for the names of indexes': {
      args: ['schema', '--dialect', 'sqlite', '--prefix', 'a'.repeat(31)],
      says: /at most 30/,
    },
    'a prefix that is no name': {
      args: ['schema', '--dialect', 'sqlite', '--prefix', 'a; DROP'],
      says: /table prefix/,
    },
  }

  for (const [name, { args, env = {}, says }] of Object.entries(cases)) {
    test(`${name} is told in one line, without a password`, async () => {
      const { exitCode, stdout, stderr } = await totpKit(args, env)

      assert.equal(exitCode, 1)
      assert.equal(stdout, '')
      assert.match(stderr, /^totp-kit: [^\n]+\n$/)
      assert.match(stderr, says)
      assert.equal(stderr.includes(secret), false)
    })
  }
})
