/**
 * The statements that the real store sends for one request, recorded at a driver, to be sent again by the limit with the
 * values of other requests.
 *
 * Each work is recorded twice, for two users and at two times. A value that is the same in both is sent again as it is. One
 * that differs must be known to the limit, by what it is equal to in both recordings or by the name of its parameter, or be an
 * id that the store has made, which is made anew. Any other throws at the start, so a change of the store does not go unnoticed.
 */
import { randomUUID } from 'node:crypto'
import mysql from 'mysql2/promise'
import pg from 'pg'
import { openSqlite } from '../databases.mjs'
import { statementsFor, tablesOf } from '../internals.mjs'

/** @returns `connection`: for the store; `record(work)`: what `work` makes it send; `replay`: sends groups of that again */
export async function openRecorded(kind, url) {
  const known = new Map()
  const dialect = kind === 'mariadb' ? 'mysql' : kind
  for (const [key, { text, parameters }] of Object.entries(statementsFor(dialect, tablesOf({})))) {
    known.set(text, { key, names: parameters })
  }
  let log = null
  /** A text that is none of the store's statements begins or ends a transaction. */
  const noted = async (text, values, answer) => {
    const { key, names } = known.get(text) ?? {}
    const entry = { text, key, names, values, result: null }
    log?.push(entry)
    entry.result = await answer
    return entry.result
  }
  const { connection, replay } = await DRIVERS[dialect](url, noted)
  return {
    connection,
    replay,
    async record(work) {
      log = []
      await work()
      const groups = groupsOf(log)
      log = null
      return groups
    },
  }
}

/** Statements that stand in one transaction, or one alone: `begin` is empty. */
function groupsOf(log) {
  const groups = []
  let open = null
  const start = () => {
    const group = { begin: [], statements: [] }
    groups.push(group)
    return group
  }
  for (const entry of log) {
    if (entry.text === 'COMMIT') open = null
    else if (entry.key !== undefined) (open ?? start()).statements.push(entry)
    else {
      open ??= start()
      open.begin.push(entry.text)
    }
  }
  return groups
}

/** @param recordings - two: `groups` that were recorded, `known`: the limit's values of that request, by name */
export function operationOf(recordings) {
  const [first, second] = recordings
  const shape = ({ groups }) => JSON.stringify(groups.map(({ statements }) => statements.map(({ text }) => text)))
  if (shape(first) !== shape(second)) throw new Error('the store sent other statements for the second user')
  const fresh = new Map()
  const sourceOf = (name, value, other) => {
    if (name === 'generation') return { name }
    if (value === other) return { value }
    const role = Object.keys(first.known).find((role) => {
      const [known, otherKnown] = recordings.map(({ known }) => known[role])
      return String(known) === String(value) && String(otherKnown) === String(other)
    })
    if (role !== undefined) return { name: role }
    if (name in first.known) return { name }
    if (!/^[\w-]{22,36}$/.test(value)) throw new Error(`the limit does not know ${name}: adapt limit.mjs`)
    if (!fresh.has(value)) fresh.set(value, `fresh ${fresh.size}`)
    return { name: fresh.get(value) }
  }
  const groups = first.groups.map(({ begin, statements }, g) => ({
    begin,
    statements: statements.map(({ text, key, names, values, result }, s) => {
      const other = second.groups[g].statements[s]
      const sources = names.map((name, n) => ({ parameter: name, ...sourceOf(name, values[n], other.values[n]) }))
      return { text, key, sources, expected: /settle/i.test(key) ? expectedOf(result, other.result) : [] }
    }),
  }))
  const freshNames = [...fresh.values()]
  return {
    groups,
    withIds: (values) => Object.assign(values, Object.fromEntries(freshNames.map((id) => [id, randomUUID()]))),
  }
}

/** What an answer has to say again: that the attempt was admitted, and written. */
function expectedOf({ rows }, other) {
  const [row] = rows
  const [otherRow] = other.rows
  const members = Object.keys(row ?? {}).filter((name) => /^(is_\w+|marked|consecutive)$/.test(name))
  return members.filter((name) => String(row[name]) === String(otherRow?.[name])).map((name) => [name, row[name]])
}

function check({ key, expected }, { rows }) {
  for (const [name, value] of expected) {
    if (String(rows[0]?.[name]) === String(value)) continue
    throw new Error(`${key} gave ${name} ${rows[0]?.[name]}, and ${value} for totp-kit`)
  }
}

const givenTo = (source, values) => {
  if (source.name === undefined) return source.value
  const value = values[source.name]
  if (value === undefined) throw new Error(`the limit does not give ${source.name}`)
  return value
}

const DRIVERS = {
  async sqlite(url, noted) {
    const [recorded, own] = [await openSqlite(url), await openSqlite(url)]
    const connection = {
      exec(text) {
        noted(text, [], { rows: [], changes: 0 })
        return recorded.exec(text)
      },
      prepare(text) {
        const statement = recorded.prepare(text)
        const through = (run, read) => (parameters) => {
          const result = run.call(statement, parameters)
          noted(text, Object.values(parameters), read(result))
          return result
        }
        return {
          run: through(statement.run, ({ changes }) => ({ rows: [], changes: Number(changes) })),
          all: through(statement.all, (rows) => ({ rows, changes: 0 })),
        }
      },
      close: () => recorded.close(),
    }
    const prepared = new Map()
    const ask = (statement, values) => {
      const { text, sources } = statement
      const found = prepared.get(text) ?? own.prepare(text)
      prepared.set(text, found)
      const bindings = {}
      for (const source of sources) bindings[source.parameter] = givenTo(source, values)
      const result = text.startsWith('SELECT')
        ? { rows: found.all(bindings), changes: 0 }
        : { rows: [], changes: Number(found.run(bindings).changes) }
      check(statement, result)
      return result
    }
    const write = sharedWrites(own)
    return {
      connection,
      async replay({ begin, statements }, values) {
        const work = () => statements.map((statement) => ask(statement, values))
        if (begin[0] === 'BEGIN IMMEDIATE') return write(work)
        if (begin.length === 0) return work()
        own.exec(begin[0])
        const results = work()
        own.exec('COMMIT')
        return results
      },
    }
  },

  async postgres(url, noted) {
    const pool = new pg.Pool({ connectionString: url })
    const prepared = new Map()
    const through = (client) => ({
      query(query, values) {
        if (typeof query === 'string') return noted(query, [], client.query(query, values))
        const answer = client.query(query)
        prepared.set(query.text, query.name)
        return noted(query.text, query.values, answer.then(fromPostgres)).then(() => answer)
      },
      on: (...given) => client.on(...given),
      removeListener: (...given) => client.removeListener(...given),
      release: (broken) => client.release(broken),
    })
    return {
      connection: {
        totalCount: 0,
        connect: (give) => pool.connect((error, client) => give(error, client && through(client))),
      },
      replay: pooledReplay(
        () => pool,
        () => pool.connect(),
        async (on, { text, sources }, values) =>
          fromPostgres(
            await on.query({
              name: prepared.get(text),
              text,
              values: sources.map((source) => givenTo(source, values)),
            }),
          ),
      ),
    }
  },

  async mysql(url, noted) {
    const pool = mysql.createPool(url)
    const through = (connection) => ({
      query: (text) => noted(text, [], connection.query(text)),
      execute(text, values) {
        const answer = connection.execute(text, values)
        return noted(text, values, answer.then(fromMysql)).then(() => answer)
      },
      release: () => connection.release(),
      destroy: () => connection.destroy(),
    })
    return {
      connection: { ...through(pool), getConnection: async () => through(await pool.getConnection()) },
      replay: pooledReplay(
        () => pool,
        () => pool.getConnection(),
        async (on, { text, sources }, values) =>
          fromMysql(
            await on.execute(
              text,
              sources.map((source) => givenTo(source, values)),
            ),
          ),
      ),
    }
  },
}

const fromPostgres = ({ rows, rowCount }) => ({ rows, changes: rowCount ?? 0 })
const fromMysql = ([result]) =>
  Array.isArray(result) ? { rows: result, changes: 0 } : { rows: [], changes: result.affectedRows }

function pooledReplay(any, lend, ask) {
  const checked = async (on, statement, values) => {
    const result = await ask(on, statement, values)
    check(statement, result)
    return result
  }
  return async ({ begin, statements }, values) => {
    if (begin.length === 0) return [await checked(any(), statements[0], values)]
    const on = await lend()
    try {
      for (const text of begin) await on.query(text)
      const results = []
      for (const statement of statements) results.push(await checked(on, statement, values))
      await on.query('COMMIT')
      return results
    } finally {
      on.release()
    }
  }
}

/** As in `src/store/sqlite.ts`, for the one case that everything is right: writes of one turn share a transaction. */
function sharedWrites(database) {
  let waiting = []
  const writeAll = () => {
    const group = waiting
    waiting = []
    database.exec('BEGIN IMMEDIATE')
    const told = group.map(({ work, resolve }) => {
      if (group.length > 1) database.exec('SAVEPOINT one_write')
      const results = work()
      if (group.length > 1) database.exec('RELEASE one_write')
      return () => resolve(results)
    })
    database.exec('COMMIT')
    for (const tell of told) tell()
  }
  return (work) =>
    new Promise((resolve) => {
      waiting.push({ work, resolve })
      if (waiting.length === 1) setImmediate(writeAll)
    })
}
