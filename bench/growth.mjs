/**
 * Does a login get dearer as users are added, or with the number of backup codes? Fills PostgreSQL and SQLite with users
 * and measures `answerChallenge` at each size in turn. Run by run.mjs in a process of its own, or alone: see README.md.
 * Prints JSON.
 */
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { createTotp, generateFernetKey } from '../dist/index.js'
import { postgresStore } from '../dist/store/postgres.js'
import { sqliteStore } from '../dist/store/sqlite.js'
import { authenticatorFor, fakeClock } from '../dist/testing/index.js'
import { makeDatabase, openSqlite, serverVersion } from './databases.mjs'
import { median, progress, ratioOf, ratioText } from './measure.mjs'

const isShort = process.argv.includes('--short')
const SMALL = 1_000
const SIZES = (process.env.BENCH_USERS ?? (isShort ? '1000,20000' : '1000,1000000')).split(',').map(Number)
const LOGINS_PER_ROUND = 100
/** As many as it takes for each user to have logged in once, at each size. */
const WARM_UP_ROUNDS = SMALL / LOGINS_PER_ROUND
const ROUNDS = isShort ? 5 : 10
const CODE_COUNTS = [1, 10, 50]
const CODE_LOGINS = isShort ? 60 : 200
const encryptionKey = generateFernetKey()
const clock = fakeClock(1_800_000_000)

const results = []
for (const kind of ['sqlite', 'postgres']) {
  if (kind === 'postgres' && (await serverVersion(kind)) === null) {
    results.push({ database: kind, absent: 'no server answers' })
    continue
  }
  const database = await makeDatabase(kind)
  try {
    const open = kind === 'sqlite' ? await onSqlite(database.url) : await onPostgres(database.url)
    try {
      results.push(await measure(kind, open))
    } finally {
      await open.end()
    }
  } finally {
    await database.drop()
  }
}
for (const { database, sizes, codes } of results) {
  if (sizes === undefined) continue
  const [first, last] = [sizes[0], sizes.at(-1)]
  progress(
    `growth, ${database}: ${last.users} users cost ${ratioText(ratioOf(last.times, first.times))} × ${first.users}`,
  )
  progress(
    `growth, ${database}: ${codes.at(-1).count} backup codes cost ${ratioText(ratioOf(codes.at(-1).times, codes[0].times))} × 1`,
  )
}
process.stdout.write(JSON.stringify(results))

/** What differs between the databases: `sql` runs a statement, `fill` adds users to a set of tables. */
async function onPostgres(url) {
  const pool = new pg.Pool({ connectionString: url, max: 4 })
  pool.on('error', () => undefined)
  // What is measured is the work, not the disk: waiting for it is the same for any number of users.
  await pool.query(`ALTER DATABASE ${new URL(url).pathname.slice(1)} SET synchronous_commit = off`)
  await pool.end()
  const own = new pg.Pool({ connectionString: url, max: 4 })
  own.on('error', () => undefined)
  return {
    sql: (text) => own.query(text),
    store: (prefix) => postgresStore(own, { prefix }),
    // In rising order, which fills an index fastest, and evenly spread, so that the users who log in lie among them.
    id: (added) => `'user-' || lpad(to_hex(n * ${spread(added)}), 8, '0') || lpad(to_hex(n), 16, '0')`,
    begin: 'SELECT 1',
    commit: 'SELECT 1',
    numbers: (first, last) => `generate_series(${first}::bigint, ${last}::bigint) AS n`,
    async settle() {
      await own.query('VACUUM (ANALYZE)')
      await own.query('CHECKPOINT')
    },
    end: () => own.end(),
  }
}

async function onSqlite(path) {
  const database = await openSqlite(path)
  database.exec('PRAGMA synchronous = OFF')
  database.exec('PRAGMA cache_size = -200000')
  return {
    sql: async (text) => database.exec(text),
    store: (prefix) => sqliteStore(database, { prefix }),
    id: (added) => `printf('user-%08x%016x', n * ${spread(added)}, n)`,
    begin: 'BEGIN',
    commit: 'COMMIT',
    numbers: (first, last) =>
      `(WITH RECURSIVE counted(n) AS (SELECT ${first} UNION ALL SELECT n + 1 FROM counted WHERE n < ${last})
        SELECT n FROM counted)`,
    async settle() {
      database.exec('ANALYZE')
      database.exec('PRAGMA wal_checkpoint(TRUNCATE)')
    },
    end: async () => database.close(),
  }
}

function spread(added) {
  return Math.floor(0xffff_ffff / added)
}

async function measure(kind, on) {
  progress(`growth, ${kind}: enrolling ${SMALL} users`)
  const first = await open(on, 's0_')
  const phones = await enroll(first, SMALL)
  const services = [first]
  for (const [index, size] of SIZES.entries()) {
    if (index === 0) continue
    progress(`growth, ${kind}: filling up to ${size.toLocaleString('en')} users`)
    services.push(await open(on, `s${index}_`))
    await fill(on, `s${index}_`, size - SMALL)
  }
  await on.settle()
  const sizes = await compareSizes(kind, services, [...phones])
  return { database: kind, sizes, codes: await compareCodes(kind, on) }
}

async function compareSizes(kind, services, users) {
  const times = services.map(() => [])
  for (let round = 0; round < WARM_UP_ROUNDS + ROUNDS; round++) {
    clock.advance(30)
    const first = (round * LOGINS_PER_ROUND) % SMALL
    const chosen = users.slice(first, first + LOGINS_PER_ROUND)
    const order = services.map((_, index) => (index + round) % services.length)
    for (const index of order) {
      const microseconds = await logIn(services[index], chosen)
      if (round >= WARM_UP_ROUNDS) times[index].push(median(microseconds))
    }
    if (round % 5 === 0) progress(`growth, ${kind}: round ${round + 1} of ${WARM_UP_ROUNDS + ROUNDS}`)
  }
  return SIZES.map((users, index) => ({ users, times: times[index] }))
}

async function compareCodes(kind, on) {
  progress(`growth, ${kind}: ${CODE_COUNTS.join(', ')} backup codes`)
  const totp = await open(on, 's0_')
  const users = [...(await enroll(totp, CODE_COUNTS.length * 10)).keys()]
  const times = CODE_COUNTS.map(() => [])
  for (let login = 0; login < CODE_LOGINS; login++) {
    for (const [index, count] of CODE_COUNTS.entries()) {
      const userId = users[index * 10 + (login % 10)]
      const codes = Array.from({ length: count }, () => randomBytes(10).toString('hex').toUpperCase())
      await totp.storeBackupCodes(userId, codes)
      const token = await totp.generateChallengeToken(userId)
      const code = codes[Math.floor(count / 2)]
      const begin = performance.now()
      await totp.answerChallenge(token, { method: 'backup_code', code })
      times[index].push((performance.now() - begin) * 1000)
    }
  }
  const part = Math.ceil(CODE_LOGINS / 10)
  const inTenths = (all) =>
    Array.from({ length: 10 }, (_, n) => median(all.slice(n * part, (n + 1) * part))).filter(Number.isFinite)
  return CODE_COUNTS.map((count, index) => ({ count, times: inTenths(times[index]) }))
}

async function open(on, prefix) {
  const store = await on.store(prefix)
  await store.migrate()
  return createTotp({ issuer: 'Bench', encryptionKey, store, clock: clock.now })
}

/** Users as the package makes them, and their phones. */
async function enroll(totp, count) {
  const phones = new Map()
  for (let made = 0; made < count; made++) {
    const id = `user-${randomBytes(12).toString('hex')}`
    const { uri } = await totp.createTotpSetup({ id, accountName: id })
    const phone = authenticatorFor(uri)
    await totp.confirmTotpSetup(id, phone.codeAt(clock.now()))
    phones.set(id, phone)
  }
  return phones
}

/**
 * Copies the users of the first set of tables, in ten parts, each with a tenth of `added` users more between them, who
 * have what a user has but share one user's sealed texts: nobody logs in as one of them.
 */
async function fill(on, to, added) {
  const { sql, numbers } = on
  const id = on.id(added)
  await sql(`DELETE FROM ${to}canary`)
  await sql(`INSERT INTO ${to}canary SELECT * FROM s0_canary`)
  await sql(on.begin)
  for (let part = 0; part < 10; part++) {
    for (const table of ['user', 'authenticator', 'backup_code', 'failure']) {
      const of = `s0_${table} WHERE user_id IN (SELECT user_id FROM s0_user ORDER BY user_id LIMIT 100 OFFSET ${part * 100})`
      await sql(`INSERT INTO ${to}${table} SELECT * FROM ${of}`)
    }
    const some = numbers(Math.floor((added * part) / 10) + 1, Math.floor((added * (part + 1)) / 10))
    await sql(
      `INSERT INTO ${to}user (user_id, generation, changed_at, confirmed_at)
       SELECT ${id}, u.generation, u.changed_at, u.confirmed_at FROM ${some}, (SELECT * FROM s0_user LIMIT 1) AS u`,
    )
    await sql(
      `INSERT INTO ${to}authenticator (id, user_id, name, sealed_secret, algorithm, digits, period_seconds, created_at,
         last_step, last_used_at)
       SELECT ${id}, ${id}, a.name, a.sealed_secret, a.algorithm, a.digits, a.period_seconds, a.created_at,
         a.last_step, a.last_used_at FROM ${some}, (SELECT * FROM s0_authenticator LIMIT 1) AS a`,
    )
    await sql(
      `INSERT INTO ${to}failure (user_id, method, consecutive, blocked_until, period, in_period, in_previous_period)
       SELECT ${id}, f.method, f.consecutive, f.blocked_until, f.period, f.in_period, f.in_previous_period
       FROM ${some}, (SELECT * FROM s0_failure LIMIT 1) AS f`,
    )
    await sql(
      `INSERT INTO ${to}backup_code (user_id, digest, position, sealed_code, used_at)
       SELECT ${id}, ${id} || '-' || c.position, c.position, c.sealed_code, c.used_at
       FROM ${some}, (SELECT * FROM s0_backup_code WHERE user_id = (SELECT user_id FROM s0_user LIMIT 1)) AS c`,
    )
    progress(`growth: ${(part + 1) * 10} % filled`)
  }
  await sql(on.commit)
}

/** Logs all of `users` in, one after the other. @returns µs for the second step of each */
async function logIn(totp, users) {
  const taken = []
  for (const [id, phone] of users) {
    const token = await totp.generateChallengeToken(id)
    const code = phone.codeAt(clock.now())
    const begin = performance.now()
    await totp.answerChallenge(token, { method: 'totp', code })
    taken.push((performance.now() - begin) * 1000)
  }
  return taken
}
