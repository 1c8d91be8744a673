/** The SQL that a database speaks. MariaDB speaks `mysql`. */
export type Dialect = 'sqlite' | 'postgres' | 'mysql'

export type SqlValue = string | number | bigint | null
export type SqlParameters = Readonly<Record<string, SqlValue>>

/** A statement as a driver takes it: placeholders in the dialect's own way, and the names that fill them in order. */
export interface Statement {
  /** Names the statement for the server's cache of prepared ones. */
  name: string
  text: string
  /** One for each placeholder; in SQLite, one for each named parameter. */
  parameters: readonly string[]
}

/** Parameters that are texts; all others are whole numbers. PostgreSQL wants to be told. */
const TEXTS = new Set([
  'userId',
  'userIds',
  'id',
  'name',
  'sealedSecret',
  'algorithm',
  'digest',
  'digests',
  'changeId',
  'attemptId',
  'familyTokenId',
  'sealedCode',
  'method',
  'tokenId',
  'newTokenId',
  'familyId',
  'deviceId',
  'tokenDigest',
  'sessionDigest',
  'newTokenDigest',
  'keepFamilyId',
  'authenticatorId',
  'sealed',
  'keyDigest',
])

/** @param source - SQL with `:named` parameters */
export function compile(dialect: Dialect, name: string, source: string): Statement {
  const text = source.trim().replace(/\s+/g, ' ')
  const named = Array.from(text.matchAll(/(?<!:):(\w+)/g), ([, parameter]) => String(parameter))
  const distinct = [...new Set(named)]
  switch (dialect) {
    case 'sqlite':
      return { name, text, parameters: distinct }
    case 'mysql':
      return { name, text: text.replace(/(?<!:):\w+/g, '?'), parameters: named }
    case 'postgres': {
      const numbered = text.replace(/(?<!:):(\w+)/g, (_, parameter: string) => {
        const type = TEXTS.has(parameter) ? 'text' : 'bigint'
        return `$${distinct.indexOf(parameter) + 1}::${type}`
      })
      return { name, text: numbered, parameters: distinct }
    }
  }
}

/** A statement of SQLite with numbered placeholders, for drivers that bind values by position. */
export function numbered(statement: Statement): Statement {
  const { text, parameters } = statement
  return { ...statement, text: text.replace(/:(\w+)/g, (_, parameter) => `?${parameters.indexOf(parameter) + 1}`) }
}
