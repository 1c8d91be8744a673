import type { Dialect } from '../store/sql/dialect.ts'
import {
  type Column,
  createTable,
  currentTables,
  migrations,
  migrationTable,
  type Table,
} from '../store/sql/migrations.ts'
import { type TableOptions, type Tables, tablesOf } from '../store/sql/tables.ts'

/** What `totp-kit schema` prints: SQL in a dialect, or the schema language of another tool for one. */
export const SCHEMA_FORMS = [
  'sqlite',
  'postgres',
  'mysql',
  'drizzle-sqlite',
  'drizzle-postgres',
  'drizzle-mysql',
  'prisma-sqlite',
  'prisma-postgres',
  'prisma-mysql',
] as const
export type SchemaForm = (typeof SCHEMA_FORMS)[number]

export function isSchemaForm(text: string | undefined): text is SchemaForm {
  return (SCHEMA_FORMS as readonly (string | undefined)[]).includes(text)
}

/**
 * All tables as of this version. The SQL enters the version too. A schema of Drizzle or Prisma cannot: tables without a
 * version belong to that tool, and `migrate` leaves them as they are.
 */
export function printSchema(form: SchemaForm, options: TableOptions): string {
  const tables = tablesOf(options)
  const all = [...currentTables, migrationTable]
  const [tool, dialect] = form.includes('-') ? (form.split('-') as [string, Dialect]) : ['sql', form as Dialect]
  switch (tool) {
    case 'drizzle':
      return drizzle(dialect, tables, all)
    case 'prisma':
      return prisma(dialect, tables, all)
    default:
      return sql(dialect, tables, all)
  }
}

function sql(dialect: Dialect, tables: Tables, all: readonly Table[]): string {
  const statements = all.flatMap((table) => createTable(dialect, tables, table))
  const versions = migrations.map((_, index) => `INSERT INTO ${tables.migration} (version) VALUES (${index + 1})`)
  return `${[...statements, ...versions].join(';\n\n')};\n`
}

const DRIZZLE = {
  sqlite: { module: 'sqlite-core', table: 'sqliteTable', text: () => 'text()', number: 'integer()' },
  postgres: { module: 'pg-core', table: 'pgTable', text: () => 'text()', number: "bigint({ mode: 'number' })" },
  mysql: {
    module: 'mysql-core',
    table: 'mysqlTable',
    text: (column: Column) =>
      ({
        user: 'varbinary({ length: 1020 })',
        id: 'varbinary({ length: 1020 })',
        name: 'varchar({ length: 255 })',
        text: 'text()',
        number: '',
      })[column.type],
    number: "bigint({ mode: 'number' })",
  },
} as const

function drizzle(dialect: Dialect, tables: Tables, all: readonly Table[]): string {
  const words = DRIZZLE[dialect]
  const used = new Set<string>([words.table, 'primaryKey'])
  const bodies = all.map((table) => {
    const columns = table.columns.map((column) => {
      const type = column.type === 'number' ? words.number : words.text(column)
      used.add(type.split('(')[0] ?? '')
      const defaultClause = column.defaultNumber === null ? '' : `.default(${column.defaultNumber})`
      return `    ${column.name}: ${type}${column.nullable ? '' : '.notNull()'}${defaultClause},`
    })
    const keys = [
      `    primaryKey({ columns: [${table.key.map((column) => `table.${column}`).join(', ')}] }),`,
      ...table.indexes.map((column) => {
        used.add('index')
        return `    index('${nameIn(tables, table).replace('.', '_')}_${column}').on(table.${column}),`
      }),
    ]
    return [
      `export const ${camel(nameIn(tables, table))} = ${words.table}(`,
      `  '${nameIn(tables, table)}',`,
      '  {',
      ...columns,
      '  },',
      '  (table) => [',
      ...keys,
      '  ],',
      ')',
    ].join('\n')
  })
  return `import { ${[...used].sort().join(', ')} } from 'drizzle-orm/${words.module}'\n\n${bodies.join('\n\n')}\n`
}

function prisma(dialect: Dialect, tables: Tables, all: readonly Table[]): string {
  const native = {
    sqlite: () => '',
    postgres: (column: Column) => (column.type === 'number' ? '' : ' @db.Text'),
    mysql: (column: Column) =>
      ({
        user: ' @db.VarBinary(1020)',
        id: ' @db.VarBinary(1020)',
        name: ' @db.VarChar(255)',
        text: ' @db.Text',
        number: '',
      })[column.type],
  }[dialect]
  const models = all.map((table) => {
    const columns = table.columns.map((column) => {
      const type =
        column.type === 'number'
          ? 'BigInt'
          : dialect === 'mysql' && (column.type === 'user' || column.type === 'id')
            ? 'Bytes'
            : 'String'
      const defaultClause = column.defaultNumber === null ? '' : ` @default(${column.defaultNumber})`
      return `  ${column.name} ${type}${column.nullable ? '?' : ''}${defaultClause}${native(column)}`
    })
    const name = nameIn(tables, table)
    const indexes = table.indexes.map((column) => `  @@index([${column}], map: "${name}_${column}")`)
    const key = `  @@id([${table.key.join(', ')}])`
    return [`model ${pascal(name)} {`, ...columns, '', key, ...indexes, `  @@map("${name}")`, '}'].join('\n')
  })
  return `${models.join('\n\n')}\n`
}

/** Without the schema in front, which Drizzle and Prisma say elsewhere. */
function nameIn(tables: Tables, { name }: Table): string {
  return tables[name].split('.').at(-1) ?? ''
}

function camel(name: string): string {
  return name.replace(/_+(\w)/g, (_, letter: string) => letter.toUpperCase())
}

function pascal(name: string): string {
  const camelled = camel(name)
  return camelled.charAt(0).toUpperCase() + camelled.slice(1)
}
