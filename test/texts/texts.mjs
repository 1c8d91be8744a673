/**
 * Prints every sentence that end users of a host can see, so that the texts can be read as a whole: what refusals say,
 * field errors, the title of the QR code, emails, and the page of the demo. Run it with `npm run texts`.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { problemReply, TotpError } from 'totp-kit'
import { nodemailerSender } from 'totp-kit/mail'
import ts from 'typescript'
import { problems } from '../../dist/contract/problems.js'
import { qrSvg } from '../../dist/otp/qr.js'
import { NOTICES } from './notices.mjs'

const ROOT = new URL('../../', import.meta.url).pathname

const PRINTED_ALREADY = 'dist/contract/problems.js'

/** What a refusal may carry that changes its sentence. */
const DETAILS = {
  invalid_code: [{ clockOffsetSeconds: -90 }, { clockOffsetSeconds: 90 }],
  recovery_link_invalid: [{ retryAfterSeconds: 3600 }],
}

function heading(text) {
  console.log(`\n## ${text}\n`)
}

function printRefusals() {
  heading('Refusals: code, title, detail')
  for (const code of Object.keys(problems)) {
    for (const details of [{}, ...(DETAILS[code] ?? [])]) {
      const { title, detail } = JSON.parse(problemReply(new TotpError(code, details)).body)
      console.log(`${code}\n  ${title}\n  ${detail}`)
    }
  }
}

function printTitleOfPicture() {
  heading('Title of the QR code, as screen readers read it')
  const [, title] = /<title>(.*)<\/title>/.exec(qrSvg('otpauth://totp/Acme'))
  console.log(title)
}

async function printMails() {
  heading('Emails: kind, subject, text')
  let mail
  const transport = {
    async sendMail(sent) {
      mail = sent
    },
  }
  const send = nodemailerSender(transport, { from: 'Acme <security@acme.example>' })
  for (const notice of NOTICES) {
    await send({ to: 'ann@example.com', userId: 'ann', issuer: 'Acme', at: 1_800_000_000, ...notice })
    console.log(`${notice.kind}\n  ${mail.subject}\n${mail.text.replace(/^(?=.)/gm, '  ')}`)
  }
}

function printSource(title, folders, isShown) {
  heading(title)
  for (const folder of folders) {
    for (const file of filesOf(folder)) {
      const source = readFileSync(ROOT + file, 'utf8')
      const found = new Set((file.endsWith('.html') ? htmlTexts(source) : literalsIn(file, source)).filter(isShown))
      if (found.size > 0) console.log([file, ...found].join('\n  '))
    }
  }
}

/** A file by itself, or the files of a folder and the folders in it. */
function filesOf(path) {
  if (path.endsWith('.ts')) return [path]
  const names = readdirSync(ROOT + path, { recursive: true, encoding: 'utf8' }).map((name) => `${path}/${name}`)
  return names.filter((name) => /(?<!\.d)\.(js|ts|html)$/.test(name) && name !== PRINTED_ALREADY).sort()
}

function htmlTexts(html) {
  const attributes = Array.from(html.matchAll(/\s(?:aria-label|title|placeholder|alt)="([^"]*)"/g), ([, text]) => text)
  const pieces = html.replace(/<(script|style)[\s\S]*?<\/\1>/g, '').split(/<[^>]*>/)
  return [...pieces.map((piece) => piece.trim().replace(/\s+/g, ' ')), ...attributes]
}

/** The texts in a source file; what is put into one by code stands in braces. */
function literalsIn(file, source) {
  const texts = []
  const visit = (node) => {
    if (isForTheMachine(node)) return
    if (isText(node)) {
      texts.push(textOf(node).replace(/\s+/g, ' '))
      embeddedIn(node).forEach(visit)
    } else {
      ts.forEachChild(node, visit)
    }
  }
  visit(ts.createSourceFile(file, source, ts.ScriptTarget.ES2023, true))
  return texts
}

function isText(node) {
  if (ts.isBinaryExpression(node)) {
    return node.operatorToken.kind === ts.SyntaxKind.PlusToken && (isText(node.left) || isText(node.right))
  }
  return ts.isStringLiteralLike(node) || ts.isTemplateExpression(node)
}

function textOf(node) {
  if (ts.isStringLiteralLike(node)) return node.text
  if (ts.isTemplateExpression(node)) {
    const spans = node.templateSpans.map(({ expression, literal }) => `{${expression.getText()}}${literal.text}`)
    return node.head.text + spans.join('')
  }
  return isText(node) ? textOf(node.left) + textOf(node.right) : `{${node.getText()}}`
}

/** What stands between the pieces of a text: it may hold texts too. */
function embeddedIn(node) {
  if (ts.isTemplateExpression(node)) return node.templateSpans.map(({ expression }) => expression)
  if (ts.isBinaryExpression(node))
    return [node.left, node.right].flatMap((side) => (isText(side) ? embeddedIn(side) : [side]))
  return []
}

const ATTRIBUTES_FOR_PEOPLE = /^(aria-label|title|placeholder|alt|label|text|value)$/
const COMPARISONS = [ts.SyntaxKind.EqualsEqualsEqualsToken, ts.SyntaxKind.ExclamationEqualsEqualsToken]

function isForTheMachine(node) {
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node) || ts.isTypeNode(node)) return true
  if (ts.isBinaryExpression(node)) return COMPARISONS.includes(node.operatorToken.kind)
  // An attribute such as `class`; a member whose name is written without quotes may be a text of ours.
  return (
    ts.isPropertyAssignment(node) &&
    (ts.isStringLiteral(node.name) || /^(class|rel|role|type|autocomplete)$/.test(node.name.getText())) &&
    !ATTRIBUTES_FOR_PEOPLE.test(node.name.text ?? '')
  )
}

const isSentence = (text) => /^[A-Z].*\s.*\.$/.test(text)
const WORDS_IN_SENTENCES = /^(now|slow|fast|second|minute|day|iPhone|iPad)$/
const isForPeople = (text) =>
  WORDS_IN_SENTENCES.test(text) ||
  /^\S+ing…$/.test(text) ||
  /^[“A-Z][a-z’']+\S*$/.test(text) ||
  (/\s/.test(text) && /[A-Za-z]{2}/.test(text))

printRefusals()
printSource(
  'Field errors and answers',
  ['dist/contract', 'dist/http', 'dist/flows', 'dist/recovery', 'dist/jwt'],
  isSentence,
)
printSource('Why an account name cannot be enrolled', ['dist/otp'], (text) => /^the (issuer|\{what\}) /.test(text))
printTitleOfPicture()
await printMails()
printSource('The page of the demo', ['demo/page'], isForPeople)
printSource('Field errors of the demo server', ['demo/app.ts', 'demo/users.ts'], isSentence)
