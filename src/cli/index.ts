#!/usr/bin/env node
import { parseArgs } from 'node:util'
import { openApiDocument } from '../contract/openapi.ts'
import { generateFernetKey } from '../crypto/keyring.ts'
import { migrateDatabase } from './migrate.ts'
import { isSchemaForm, printSchema, SCHEMA_FORMS } from './schema.ts'
import { SIMULATION_OPTIONS, simulateLockout } from './simulate-lockout.ts'

const HELP = `totp-kit: two-factor authentication for TypeScript APIs

  totp-kit keygen
      Prints a new encryption key for TOTP_ENCRYPTION_KEY.

  totp-kit migrate [--database-url URL] [--prefix totp_] [--schema NAME]
      Creates or updates the tables. URL is sqlite:PATH, postgres://… or mysql://…. Default: DATABASE_URL.

  totp-kit schema --dialect ${SCHEMA_FORMS.join('|')} [--prefix totp_] [--schema NAME]
      Prints the tables as SQL, or as a Drizzle or Prisma schema, for projects with their own migration tool.

  totp-kit openapi [--modules totp,jwt,recovery] [--base-path /api] [--issuer NAME]
      Prints the OpenAPI document that a service serves at totp/openapi.json.

  totp-kit simulate-lockout [--lock-after 100] [--max-per-period 300] [--window 1] [--max-authenticators 1] …
      Prints the chance that an attacker who has the password guesses a code within a year, and compares it with
      the defaults of other systems. More options: ${SIMULATION_OPTIONS.filter(
        (name) => !/cap|total$|window|max-auth/.test(name),
      )
        .map((name) => `--${name}`)
        .join(' ')}
`

/** A command that cannot be carried out as it was given; the message is what the operator sees. */
class UsageError extends Error {}

const MODULES = ['totp', 'jwt', 'recovery'] as const

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      'database-url': { type: 'string' },
      dialect: { type: 'string' },
      prefix: { type: 'string' },
      schema: { type: 'string' },
      modules: { type: 'string' },
      'base-path': { type: 'string' },
      issuer: { type: 'string' },
      ...Object.fromEntries(SIMULATION_OPTIONS.map((name) => [name, { type: 'string' as const }])),
      help: { type: 'boolean', short: 'h' },
    },
  })
  const [command, ...more] = positionals
  const { prefix, schema } = values
  const tables = { ...(prefix === undefined ? {} : { prefix }), ...(schema === undefined ? {} : { schema }) }
  if (values.help || command === undefined) {
    print(HELP)
    return
  }
  // A URL given without its option must not end in a migration of what DATABASE_URL names.
  if (more.length > 0) throw new UsageError('expected one command; see totp-kit --help')
  switch (command) {
    case 'keygen':
      print(`${generateFernetKey()}\n`)
      return
    case 'schema':
      if (!isSchemaForm(values.dialect))
        throw new UsageError(`schema: --dialect must be one of ${SCHEMA_FORMS.join(', ')}`)
      print(printSchema(values.dialect, tables))
      return
    case 'openapi': {
      const { modules = 'totp,jwt,recovery', 'base-path': basePath = '/api', issuer = 'totp-kit' } = values
      const chosen = MODULES.filter((module) => modules.split(',').includes(module))
      if (chosen.length !== modules.split(',').length) {
        throw new UsageError(`openapi: --modules must be a comma-separated list of ${MODULES.join(', ')}`)
      }
      print(`${openApiDocument(chosen, { issuer })(basePath.replace(/\/$/, ''))}\n`)
      return
    }
    case 'simulate-lockout':
      print(simulateLockout(values as Readonly<Record<string, string | undefined>>))
      return
    case 'migrate': {
      const url = values['database-url'] ?? process.env.DATABASE_URL
      if (!url) throw new UsageError('migrate: pass --database-url, or set DATABASE_URL')
      await migrateDatabase(url, tables)
      print('The tables are up to date.\n')
      return
    }
    default:
      // Not repeated: it may be a URL with a password.
      throw new UsageError('unknown command; see totp-kit --help')
  }
}

function print(text: string): void {
  process.stdout.write(text)
}

/** One line for the operator. Where several addresses refuse, Node's error has no words of its own: the first's are told. */
function lineOf(error: unknown): string {
  const [told] = error instanceof AggregateError ? error.errors : [error]
  const [line] = told instanceof Error ? told.message.split('\n') : []
  return line || 'failed'
}

main().catch((error: unknown) => {
  process.stderr.write(`totp-kit: ${lineOf(error)}\n`)
  process.exitCode = 1
})
