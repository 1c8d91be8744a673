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

/**
 * The statements that take the steps after the first `done`, and note each of them.
 *
 * @throws Error when a later version of totp-kit has been at the database
 */
export function statementsAfter(done: number, dialect: Dialect, tables: Tables): string[] {
  if (done > migrations.length) throw new Error('the tables were created by a later version of totp-kit')
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
