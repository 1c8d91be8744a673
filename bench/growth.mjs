/**
 * Does a login get dearer as users are added? Measures `answerChallenge` on PostgreSQL with 1,000 and with 1,000,000
 * enrolled users, in turn. See README.md.
 */
import { randomBytes } from 'node:crypto'
import pg from 'pg'
// By path: this folder is a package of its own, in which `totp-kit` is no self-reference.
import { createTotp, generateFernetKey } from '../dist/index.js'
import { postgresStore } from '../dist/store/postgres.js'
import { givenClock, phoneFor } from '../dist/testing/index.js'

const SMALL = 1_000
const LARGE = Number(process.env.BENCH_USERS ?? 1_000_000)
const USERS_PER_ROUND = 100
/** As many as it takes for each user to have logged in once. */
const WARM_UP_ROUNDS = SMALL / USERS_PER_ROUND
const ROUNDS = 30

/** The id of the added user `n`: no order among them, as with random ids. */
const ADDED_ID = `'user-' || substr(md5(n::text), 1, 24)`

const serverUrl = process.env.TEST_POSTGRES_URL ?? 'postgres://postgres@127.0.0.1:5432/test'
const started = performance.now()
const clock = givenClock(1_800_000_000)
const encryptionKey = generateFernetKey()
const name = `totp_kit_bench_${randomBytes(6).toString('hex')}`
const databaseUrl = new URL(serverUrl)
databaseUrl.pathname = `/${name}`

const admin = new pg.Client({ connectionString: serverUrl })
await admin.connect()
await admin.query(`CREATE DATABASE ${name}`)
// What is measured is the work, not the disk: waiting for it is the same for any number of users.
await admin.query(`ALTER DATABASE ${name} SET synchronous_commit = off`)
const pool = new pg.Pool({ connectionString: databaseUrl.href, max: 4 })
pool.on('error', () => undefined)
try {
  await measure()
} finally {
  await pool.end()
  await admin.query(`DROP DATABASE ${name} WITH (FORCE)`)
  await admin.end()
}

async function measure() {
  const small = await open('small_')
  const large = await open('large_')
  const phones = await enrol(small, SMALL)
  await fill('small_', 'large_', LARGE - SMALL)
  await pool.query('VACUUM (ANALYZE)')
  await pool.query('CHECKPOINT')
  const { rows } = await pool.query('SELECT count(*) FROM large_authenticator')
  report(`measuring; ${rows[0].count} authenticators in the large tables`)

  const times = { small: [], large: [] }
  const users = [...phones]
  for (let round = 0; round < WARM_UP_ROUNDS + ROUNDS; round++) {
    clock.advance(30)
    const first = (round * USERS_PER_ROUND) % SMALL
    const chosen = users.slice(first, first + USERS_PER_ROUND)
    const inTurn = [
      [small, times.small],
      [large, times.large],
    ]
    if (round % 2 === 1) inTurn.reverse()
    for (const [totp, taken] of inTurn) {
      const microseconds = await logIn(totp, chosen)
      if (round >= WARM_UP_ROUNDS) taken.push(microseconds)
    }
  }
  print(times)
}

async function open(prefix) {
  const store = postgresStore(pool, { prefix })
  await store.migrate()
  return createTotp({ issuer: 'Bench', encryptionKey, store, clock: clock.now })
}

/** Users as the package makes them, and their phones. */
async function enrol(totp, count) {
  report(`enrolling ${count} users`)
  const phones = new Map()
  for (let made = 0; made < count; made++) {
    const id = `user-${randomBytes(12).toString('hex')}`
    const { uri } = await totp.createTotpSetup({ id, accountName: id })
    const phone = phoneFor(uri)
    await totp.confirmTotpSetup(id, phone.codeAt(clock.now()))
    phones.set(id, phone)
  }
  return phones
}

/**
 * Copies the users of one set of tables to another, in ten parts, each with a tenth of `added` users more between them,
 * who have what a user has but share one user's sealed texts: nobody logs in as one of them.
 */
async function fill(from, to, added) {
  const indexes = await takeIndexes(to)
  const hasher = (part) => `abs(hashtext(user_id)) % 10 = ${part}`
  await pool.query(
    `INSERT INTO ${to}canary SELECT * FROM ${from}canary ON CONFLICT (id) DO UPDATE SET sealed = excluded.sealed`,
  )
  for (let part = 0; part < 10; part++) {
    report(`filling: ${Math.round((added / 10) * part)} of ${added} users`)
    for (const table of ['user', 'authenticator', 'backup_code', 'failure']) {
      await pool.query(`INSERT INTO ${to}${table} SELECT * FROM ${from}${table} WHERE ${hasher(part)}`)
    }
    const users = [Math.floor((added * part) / 10) + 1, Math.floor((added * (part + 1)) / 10)]
    await Promise.all([fillUsers(to, from, users), fillBackupCodes(to, from, users)])
  }
  for (const [index, definition] of indexes.entries()) {
    report(`building index ${index + 1} of ${indexes.length}`)
    await pool.query(definition)
  }
}

async function fillUsers(to, from, users) {
  await pool.query(
    `INSERT INTO ${to}user (user_id, generation, changed_at, confirmed_at)
     SELECT ${ADDED_ID}, u.generation, u.changed_at, u.confirmed_at
     FROM generate_series($1::bigint, $2::bigint) AS n, (SELECT * FROM ${from}user LIMIT 1) AS u`,
    users,
  )
  await pool.query(
    `INSERT INTO ${to}authenticator (id, user_id, name, sealed_secret, algorithm, digits, period_seconds, created_at,
       last_step, last_used_at)
     SELECT gen_random_uuid()::text, ${ADDED_ID}, a.name, a.sealed_secret, a.algorithm, a.digits, a.period_seconds,
       a.created_at, a.last_step, a.last_used_at
     FROM generate_series($1::bigint, $2::bigint) AS n, (SELECT * FROM ${from}authenticator LIMIT 1) AS a`,
    users,
  )
  await pool.query(
    `INSERT INTO ${to}failure (user_id, method, consecutive, blocked_until, period, in_period, in_previous_period)
     SELECT ${ADDED_ID}, f.method, f.consecutive, f.blocked_until, f.period, f.in_period, f.in_previous_period
     FROM generate_series($1::bigint, $2::bigint) AS n, (SELECT * FROM ${from}failure LIMIT 1) AS f`,
    users,
  )
}

async function fillBackupCodes(to, from, users) {
  await pool.query(
    `INSERT INTO ${to}backup_code (user_id, digest, position, sealed_code, used_at)
     SELECT ${ADDED_ID}, md5(n || '-' || c.position), c.position, c.sealed_code, c.used_at
     FROM generate_series($1::bigint, $2::bigint) AS n,
       (SELECT * FROM ${from}backup_code WHERE user_id = (SELECT user_id FROM ${from}user LIMIT 1)) AS c`,
    users,
  )
}

/** Drops the indexes of the tables to be filled, and gives the statements that make them again: much the faster way. */
async function takeIndexes(prefix) {
  const { rows } = await pool.query(
    `SELECT i.indexrelid::regclass::text AS index, i.indrelid::regclass::text AS table, c.conname AS key,
       coalesce(pg_get_constraintdef(c.oid), pg_get_indexdef(i.indexrelid)) AS definition
     FROM pg_index AS i LEFT JOIN pg_constraint AS c ON c.conindid = i.indexrelid
     WHERE i.indrelid::regclass::text = ANY($1)`,
    [['user', 'authenticator', 'backup_code', 'failure'].map((table) => prefix + table)],
  )
  for (const { index, table, key } of rows) {
    await pool.query(key ? `ALTER TABLE ${table} DROP CONSTRAINT ${key}` : `DROP INDEX ${index}`)
  }
  return rows.map(({ table, key, definition }) =>
    key ? `ALTER TABLE ${table} ADD CONSTRAINT ${key} ${definition}` : definition,
  )
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

function print(times) {
  const rows = [
    [SMALL, times.small],
    [LARGE, times.large],
  ].map(([users, rounds]) => {
    const all = rounds.flat()
    return {
      'enrolled users': users.toLocaleString('en'),
      logins: all.length,
      'median µs': Math.round(quantile(all, 0.5)),
      'middle half µs': `${Math.round(quantile(all, 0.25))}–${Math.round(quantile(all, 0.75))}`,
      'p95 µs': Math.round(quantile(all, 0.95)),
    }
  })
  console.table(rows)
  const ratios = times.small.map((round, index) => quantile(times.large[index], 0.5) / quantile(round, 0.5))
  const ratio = quantile(times.large.flat(), 0.5) / quantile(times.small.flat(), 0.5)
  const spread = `${quantile(ratios, 0.25).toFixed(2)}–${quantile(ratios, 0.75).toFixed(2)}`
  const counts = `${LARGE.toLocaleString('en')} / ${SMALL.toLocaleString('en')} users`
  console.log(`ratio ${counts}: ${ratio.toFixed(2)} (middle half of ${ratios.length} rounds: ${spread})`)
  report('done')
}

function quantile(values, part) {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor((sorted.length - 1) * part)]
}

function report(doing) {
  console.log(`${Math.round((performance.now() - started) / 1000)} s: ${doing}`)
}
