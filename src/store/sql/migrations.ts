import type { Dialect } from './dialect.ts'
import type { TableName, Tables } from './tables.ts'

/**
 * What a column holds. `user` and `id` are texts that are keys, `text` and `name` texts that are not; `number` is a
 * whole number of up to 53 bits. Times are numbers: Unix seconds.
 */
type ColumnType = 'user' | 'id' | 'text' | 'name' | 'number'

export interface Column {
  name: string
  type: ColumnType
  nullable: boolean
  /** Of the rows that were there before the column; null: none. */
  defaultNumber: number | null
}

export interface Table {
  name: TableName
  columns: readonly Column[]
  key: readonly string[]
  indexes: readonly string[]
}

/** A step forward: tables that are added, and columns of tables that are there. */
interface Migration {
  tables: readonly Table[]
  columns: readonly { of: TableName; columns: readonly Column[] }[]
}

const firstTables: readonly Table[] = [
  table('user', 'user_id user, generation number, changed_at number, confirmed_at number?', ['user_id']),
  table(
    'authenticator',
    `id id, user_id user, name name?, sealed_secret text, algorithm id, digits number, period_seconds number,
    created_at number, last_step number, last_used_at number?`,
    ['id'],
    ['user_id'],
  ),
  table(
    'pending',
    `user_id user, id id, name name?, sealed_secret text, algorithm id, digits number, period_seconds number,
    created_at number, expires_at number`,
    ['user_id'],
    ['expires_at'],
  ),
  table('backupCode', 'user_id user, digest id, position number, sealed_code text?, used_at number?', [
    'user_id',
    'digest',
  ]),
  table(
    'failure',
    `user_id user, method id, consecutive number, blocked_until number, period number, in_period number,
    in_previous_period number`,
    ['user_id', 'method'],
  ),
  table('burntToken', 'token_id id, expires_at number', ['token_id'], ['expires_at']),
  table(
    'refreshFamily',
    'id id, user_id user, token_id id, generation number, expires_at number',
    ['id'],
    ['user_id', 'expires_at'],
  ),
  table('throttle', 'key_digest id, calls number, expires_at number', ['key_digest'], ['expires_at']),
  table('canary', 'id number, sealed text', ['id']),
]

/** A step that was released is never changed; the next one changes the schema. */
export const migrations: readonly Migration[] = [
  { tables: firstTables, columns: [] },
  {
    tables: [
      table(
        'trustedDevice',
        `id id, user_id user, name name?, token_digest id, generation number, created_at number, last_used_at number,
        expires_at number`,
        ['id'],
        ['user_id', 'expires_at'],
      ),
    ],
    columns: [
      { of: 'authenticator', columns: columnsOf('drift_steps number=0, far_step number?') },
      { of: 'pending', columns: columnsOf('far_step number?') },
    ],
  },
  {
    tables: [],
    columns: [
      { of: 'user', columns: columnsOf('codes_saved_at number?') },
      { of: 'pending', columns: columnsOf('session_digest id?') },
    ],
  },
  {
    tables: [],
    columns: [
      { of: 'user', columns: columnsOf('change_id id?') },
      { of: 'failure', columns: columnsOf('attempt_id id?') },
    ],
  },
]

/** The tables as all steps together leave them. */
export const currentTables: readonly Table[] = migrations
  .flatMap(({ tables }) => tables)
  .map((table) => {
    const added = migrations.flatMap((step) => step.columns.filter(({ of }) => of === table.name))
    return { ...table, columns: [...table.columns, ...added.flatMap(({ columns }) => columns)] }
  })

/** The steps that have been taken. */
export const migrationTable = table('migration', 'version number', ['version'])

type Row = Readonly<Record<string, unknown>>

/** The read that finds the columns of the tables that are there, without the migration table. */
export function listColumns(dialect: Dialect, tables: Tables): string {
  const names = currentTables.map(({ name }) => tables[name])
  const quoted = (texts: readonly string[]) => texts.map((text) => `'${text}'`).join(', ')
  switch (dialect) {
    case 'sqlite':
      return `SELECT t.name AS table_name, c.name AS column_name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c
        WHERE t.type = 'table' AND t.name IN (${quoted(names)})`
    case 'postgres':
      return `SELECT t.relname AS table_name, c.attname AS column_name
        FROM pg_attribute AS c JOIN pg_class AS t ON t.oid = c.attrelid
        WHERE t.oid IN (${names.map((name) => `to_regclass('${name}')`).join(', ')}) AND c.attnum > 0 AND NOT c.attisdropped`
    case 'mysql': {
      const [schema] = tables.migration.split('.').slice(0, -1)
      return `SELECT table_name AS table_name, column_name AS column_name FROM information_schema.columns
        WHERE table_schema = ${schema === undefined ? 'DATABASE()' : `'${schema}'`}
        AND table_name IN (${quoted(names.map(withoutSchema))})`
    }
  }
}

/** The read that finds the version; null: none is noted. */
export function readVersion(tables: Tables): string {
  return `SELECT max(version) AS version FROM ${tables.migration}`
}

export function versionOf(row: Row | undefined): number | null {
  const version = row?.version ?? null
  return version === null ? null : Number(version)
}

/**
 * @param version - null: none is noted, so another tool (Drizzle, Prisma) made the tables
 * @param columns - where no version is noted: what {@link listColumns} gives
 * @throws Error that says in words how the tables differ from those of this release, and what to do
 */
export function checkTables(version: number | null, columns: readonly Row[], tables: Tables): void {
  const needed = migrations.length
  if (version === null) checkColumns(columns, tables)
  else if (version !== needed) {
    throw new Error(
      `the totp-kit tables are at version ${version}, this version of totp-kit needs ${needed}: ${
        version < needed ? 'call store.migrate(), or run totp-kit migrate' : 'install the later version of totp-kit'
      }`,
    )
  }
}

function checkColumns(columns: readonly Row[], tables: Tables): void {
  const found = new Set(columns.map((row) => `${row.table_name}.${row.column_name}`))
  const missing = currentTables
    .flatMap((table) => table.columns.map((column) => `${withoutSchema(tables[table.name])}.${column.name}`))
    .find((column) => !found.has(column))
  if (missing === undefined) return
  throw new Error(
    `the totp-kit tables lack ${missing}. They have no version, so another tool made them: print the tables with totp-kit schema, and update them with that tool`,
  )
}

function withoutSchema(table: string): string {
  return table.split('.').at(-1) ?? ''
}

/**
 * The statements that bring the tables up to date. Tables that another tool made (Drizzle, Prisma) have no version: they
 * remain that tool's, and none is added to them.
 *
 * @param version - null: none is noted
 * @param columns - where no version is noted: what {@link listColumns} gives
 * @throws Error when a later version of totp-kit, or another tool, made the tables, and they are not those of this release
 */
export function statementsToMigrate(
  version: number | null,
  columns: readonly Row[],
  dialect: Dialect,
  tables: Tables,
): string[] {
  if (version !== null) return statementsAfter(version, dialect, tables)
  if (columns.length > 0) {
    checkColumns(columns, tables)
    return []
  }
  // MySQL keeps the tables of a first step that broke off: the 0 says that they are ours.
  const begun = dialect === 'mysql' ? [`INSERT INTO ${tables.migration} (version) VALUES (0)`] : []
  return [...begun, ...statementsAfter(0, dialect, tables)]
}

/**
 * The statements that take the steps after the first `done`, and note each of them.
 *
 * @throws Error when a later version of totp-kit has been at the database
 */
export function statementsAfter(done: number, dialect: Dialect, tables: Tables): string[] {
  if (done > migrations.length) checkTables(done, [], tables)
  return migrations
    .slice(done)
    .flatMap((step, index) => [
      ...step.tables.flatMap((table) => createTable(dialect, tables, table)),
      ...step.columns.flatMap(({ of, columns }) =>
        columns.map((column) => `ALTER TABLE ${tables[of]} ADD COLUMN ${columnLine(dialect, column)}`),
      ),
      `INSERT INTO ${tables.migration} (version) VALUES (${done + index + 1})`,
    ])
}

/**
 * The statements that make a table. In MySQL, which cannot undo a step that broke off, they do nothing where it is there,
 * so that the step can be taken again; elsewhere a table that is there is another's, and an error.
 */
export function createTable(dialect: Dialect, tables: Tables, { name, columns, key, indexes }: Table): string[] {
  const table = tables[name]
  const lines = columns.map((column) => columnLine(dialect, column))
  lines.push(`PRIMARY KEY (${key.join(', ')})`)
  const named = indexes.map((column) => ({ column, index: `${table.replace('.', '_')}_${column}` }))
  const create = dialect === 'mysql' || name === 'migration' ? 'CREATE TABLE IF NOT EXISTS' : 'CREATE TABLE'
  if (dialect === 'mysql') lines.push(...named.map(({ index, column }) => `KEY ${index} (${column})`))
  const options = {
    sqlite: ' STRICT, WITHOUT ROWID',
    postgres: '',
    mysql: ' ENGINE = InnoDB DEFAULT CHARSET = utf8mb4',
  }
  return [
    `${create} ${table} (\n  ${lines.join(',\n  ')}\n)${options[dialect]}`,
    ...(dialect === 'mysql' ? [] : named.map(({ index, column }) => `CREATE INDEX ${index} ON ${table} (${column})`)),
  ]
}

function columnLine(dialect: Dialect, { name, type, nullable, defaultNumber }: Column): string {
  const otherwise = defaultNumber === null ? '' : ` DEFAULT ${defaultNumber}`
  return `${name} ${columnType(dialect, type)}${nullable ? '' : ' NOT NULL'}${otherwise}`
}

function columnType(dialect: Dialect, type: ColumnType): string {
  switch (dialect) {
    case 'sqlite':
      return type === 'number' ? 'INTEGER' : 'TEXT'
    case 'postgres':
      return type === 'number' ? 'bigint' : 'text'
    case 'mysql':
      return {
        // Bytes, so that no collation takes two users for one: by most, 'Ann' is 'ann', and by nearly all 'ann '.
        user: 'VARBINARY(1020)',
        id: 'VARBINARY(1020)',
        text: 'TEXT',
        name: 'VARCHAR(255)',
        number: 'BIGINT',
      }[type]
  }
}

function table(name: TableName, columns: string, key: string[], indexes: string[] = []): Table {
  return { name, columns: columnsOf(columns), key, indexes }
}

/** @param columns - `name type`, comma-separated; a question mark: may be NULL; `=` and a number: the default */
function columnsOf(columns: string): Column[] {
  return columns.split(',').map((column) => {
    const [, name = '', type, mark, number] = /^(\w+) (\w+)(\?|=(\d+))?$/.exec(column.trim()) ?? []
    return { name, type: type as ColumnType, nullable: mark === '?', defaultNumber: number ? Number(number) : null }
  })
}
