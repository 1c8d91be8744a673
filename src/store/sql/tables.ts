import type { OptionNames } from '../../check-options.ts'

/** How the tables are named. Prefix and schema have at most 30 characters together: `a-z`, `0-9` and `_`. */
export interface TableOptions {
  /** The start of each table's name. Default `totp_`. */
  prefix?: string | undefined
  /** A PostgreSQL schema or a MySQL database. Default: that of the connection. SQLite has none. */
  schema?: string | undefined
}

export const TABLE_OPTIONS: OptionNames<TableOptions> = { prefix: true, schema: true }

/** How the tables of an SQLite database are named, which has no schemas. */
export type SqliteOptions = Pick<TableOptions, 'prefix'>

export const SQLITE_OPTIONS: OptionNames<SqliteOptions> = { prefix: true }

export type TableName = (typeof NAMES)[number][0]

/** The tables' names, ready to stand in a statement. `prefix` names what belongs to them: prepared statements, locks. */
export type Tables = Readonly<Record<TableName, string>> & { readonly prefix: string }

const NAMES = [
  ['user', 'user'],
  ['authenticator', 'authenticator'],
  ['pending', 'pending_authenticator'],
  ['backupCode', 'backup_code'],
  ['failure', 'failure'],
  ['burntToken', 'burnt_token'],
  ['refreshFamily', 'refresh_family'],
  ['trustedDevice', 'trusted_device'],
  ['throttle', 'throttle'],
  ['canary', 'canary'],
  ['migration', 'migration'],
] as const

/** With what we add, the names of tables, indexes and prepared statements stay within 63 bytes, PostgreSQL's limit. */
const MAX_NAME_LENGTH = 30

/** @throws TypeError when a name is not of lower-case letters, digits and underscores: it stands in SQL as it is */
export function tablesOf({ prefix = 'totp_', schema }: TableOptions = {}): Tables {
  for (const name of [prefix, ...(schema === undefined ? [] : [schema])]) {
    if (!/^[a-z_][a-z0-9_]*$/.test(name) || prefix.length + (schema?.length ?? 0) > MAX_NAME_LENGTH) {
      throw new TypeError(
        `table prefix and schema may contain only a-z, 0-9 and _, not start with a digit, and have at most ${MAX_NAME_LENGTH} characters together`,
      )
    }
  }
  const place = schema === undefined ? prefix : `${schema}.${prefix}`
  const tables = Object.fromEntries(NAMES.map(([key, name]) => [key, place + name]))
  return { ...(tables as Record<TableName, string>), prefix: place.replace('.', '_') }
}
