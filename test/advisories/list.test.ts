import ts from 'typescript'
import { expect, test } from 'vitest'
import { filesUnder, readText } from '../markdown.ts'

const FOLDER = 'test/advisories'
const files = filesUnder(FOLDER, '.test.ts').filter((file) => file !== 'list.test.ts')

/** The names of the tests of a file, in order. */
function testsOf(file: string): string[] {
  const tree = ts.createSourceFile(file, readText(`${FOLDER}/${file}`), ts.ScriptTarget.ES2023, true)
  return tree.statements.flatMap((statement) => {
    if (!ts.isExpressionStatement(statement) || !ts.isCallExpression(statement.expression)) return []
    const { expression, arguments: given } = statement.expression
    return expression.getText(tree) === 'test' && given[0] && ts.isStringLiteral(given[0]) ? [given[0].text] : []
  })
}

/** The rows of the list, by the file that the paragraph above them names. */
function rowsOf(file: string): { advisory: string; what: string; rule: string }[] {
  const [, section = ''] = readText('docs/advisories.md').split(`\`${FOLDER}/${file}\`\n`)
  const lines =
    section
      .split('\n## ')[0]
      ?.split('\n')
      .filter((line) => line.startsWith('|')) ?? []
  return lines.slice(2).map((line) => {
    const [, advisory = '', what = '', rule = ''] = line.split('|').map((cell) => cell.trim())
    return { advisory, what, rule }
  })
}

test.each(files)('docs/advisories.md lists the tests of %s, and nothing that is not tested', (file) => {
  const rows = rowsOf(file)
  expect(rows.map(({ advisory, rule }) => `${advisory}: ${rule}`)).toEqual(testsOf(file))
  for (const { advisory, what } of rows) expect(what, advisory).toMatch(/^[A-Z].+\.$/)
})

test('no file and no row of the list is left out', () => {
  const inList = readText('docs/advisories.md')
    .split('\n')
    .filter((line) => /^\| (?!advisory|---)/.test(line))
  const inFiles = files.flatMap((file) => (readText(`${FOLDER}/${file}`).match(/^ *test\b/gm) ?? []).length)
  expect(inList).toHaveLength(inFiles.reduce((sum, count) => sum + count, 0))
  expect(inList).toHaveLength(files.flatMap(testsOf).length)
  expect(inList.length).toBeGreaterThan(50)
})

test('no advisory stands in the list twice', () => {
  const ids = readText('docs/advisories.md').match(/\b(CVE-\d{4}-\d+|GHSA(-\w{4}){3}|SA-CONTRIB-\d{4}-\d+)\b/g) ?? []
  expect(ids.length).toBeGreaterThan(60)
  expect(new Set(ids).size).toBe(ids.length)
})
