import type { Status } from '../api.ts'
import type { Account } from '../app.ts'
import { askFor, deliberately, withStepUp } from '../dialogs.ts'
import { ago, day, el } from '../dom.ts'
import { actionButton, type ErrorRegion, errorRegion, field } from '../form.ts'

type Authenticator = Status['authenticators'][number]

/** The list of authenticators, with what can be done to each, and the way to a further one. */
export function authenticatorRows(account: Account): (HTMLElement | null)[] {
  const { authenticators } = account.status
  const errors = errorRegion()
  return [
    el(
      'ul',
      { class: 'things', 'data-authenticators': true },
      ...authenticators.map((each) => item(account, each, errors)),
    ),
    errors.element,
    el('div', { class: 'actions' }, furtherButton(account, errors)),
  ]
}

function item(account: Account, authenticator: Authenticator, errors: ErrorRegion) {
  const { created_at, last_used_at } = authenticator
  const used = last_used_at === null ? ['Not used yet'] : ['Last used ', ago(last_used_at)]
  return el(
    'li',
    {},
    el(
      'div',
      {},
      el('strong', {}, nameOf(authenticator)),
      el('small', {}, ...used),
      el('small', {}, 'Added ', day(created_at)),
    ),
    el(
      'div',
      { class: 'actions' },
      renameButton(account, authenticator, errors),
      // The last one is removed by turning two-factor authentication off.
      account.status.authenticators.length > 1 ? removeButton(account, authenticator, errors) : null,
    ),
  )
}

function renameButton({ app }: Account, authenticator: Authenticator, errors: ErrorRegion): HTMLElement {
  const rename = actionButton({
    action: 'rename-authenticator',
    label: 'Rename',
    busyLabel: null,
    errors,
    work: async () => {
      const name = nameField(nameOf(authenticator))
      const question = {
        title: 'Rename authenticator',
        intro: 'Choose a name that you will recognize.',
        action: 'confirm-rename',
        label: 'Save',
        busyLabel: 'Saving…',
      }
      const call = () => app.api.renameAuthenticator(authenticator.id, name.input.value.trim())
      if ((await askFor(question, [name], call)) !== null) app.toAccount()
    },
  })
  rename.setAttribute('aria-label', `Rename ${nameOf(authenticator)}`)
  return rename
}

function removeButton({ app }: Account, authenticator: Authenticator, errors: ErrorRegion): HTMLElement {
  const name = nameOf(authenticator)
  const remove = actionButton({
    action: 'remove-authenticator',
    label: 'Remove',
    busyLabel: null,
    class: 'danger',
    errors,
    work: async () => {
      const deed = {
        question: `Remove “${name}”?`,
        consequence:
          'Its codes will stop working. You’ll be logged out on your other devices, and your trusted devices will be removed.',
        action: 'confirm-remove',
        label: 'Remove',
        busyLabel: 'Removing…',
      }
      const removed = await deliberately(app, deed, () => app.api.removeAuthenticator(authenticator.id))
      if (removed !== null) app.toAccount({ notice: `“${name}” was removed. Its codes no longer work.` })
    },
  })
  remove.setAttribute('aria-label', `Remove ${name}`)
  return remove
}

/** Beside the others while the server allows more; else it replaces one, and says which before anything happens. */
function furtherButton({ app, me, status }: Account, errors: ErrorRegion): HTMLElement {
  const replaces = status.authenticators.length >= status.policy.max_authenticators
  const title = replaces ? 'Replace authenticator' : 'Add authenticator'
  const names = status.authenticators.map(nameOf)
  return actionButton({
    action: 'new-phone',
    label: title,
    busyLabel: null,
    errors,
    work: async () => {
      const name = nameField('')
      const question = {
        title,
        intro: replaces ? replacedWords(names) : 'Your other authenticators keep working.',
        action: 'begin-new-phone',
        label: 'Continue',
        busyLabel: 'Preparing…',
      }
      const chosen = await askFor(question, [name], async () => name.input.value.trim())
      if (chosen === null) return
      const reason = 'Enter a code to set up another authenticator.'
      const enrollment = await withStepUp(app, reason, () =>
        app.api.create({ name: chosen, startsOver: chosen !== '' }),
      )
      if (enrollment === null) return
      app.toSetup({ enrollment, username: me.username, name: chosen, isFurther: true, enrollmentToken: null })
    },
  })
}

/** The server says which of several, before the new one is confirmed. */
function replacedWords([first, ...others]: string[]): string {
  if (first !== undefined && others.length === 0)
    return `When you confirm the new authenticator, it replaces “${first}”.`
  return 'You have the maximum number of authenticators. The next step shows which one will be replaced.'
}

function nameField(value: string) {
  return field({
    name: 'name',
    label: value === '' ? 'Name (optional)' : 'Name',
    hint: 'For example “Work phone” or “Tablet”.',
    value,
    empty: 'Enter a name.',
    optional: value === '',
    attributes: { maxlength: '64', autocomplete: 'off' },
  })
}

function nameOf({ name }: { name: string | null }): string {
  return name ?? 'Authenticator app'
}
