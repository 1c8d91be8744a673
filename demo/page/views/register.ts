import type { App, View } from '../app.ts'
import { el } from '../dom.ts'
import { field, form } from '../form.ts'

export function registerView(app: App): View {
  const username = field({ name: 'username', label: 'User name', attributes: { autocomplete: 'username' } })
  const email = field({
    name: 'email',
    label: 'E-mail address',
    type: 'email',
    attributes: { autocomplete: 'email' },
    check: (value) => (/^\S+@\S+$/.test(value.trim()) ? null : 'An e-mail address looks like name@example.org.'),
  })
  const password = field({
    name: 'password',
    label: 'Password',
    type: 'password',
    hint: 'At least 8 characters.',
    attributes: { autocomplete: 'new-password' },
  })

  async function submit(): Promise<void> {
    const account = {
      username: username.input.value.trim(),
      email: email.input.value.trim(),
      password: password.input.value,
    }
    await app.api.register(account)
    try {
      await app.api.logIn(account.username, account.password)
    } catch {
      return app.toLogin({ notice: 'Your account is there. Log in to use it.', username: account.username })
    }
    app.toAccount({
      notice: `Welcome, ${account.username}. Your account is there; next, protect it with a second factor.`,
    })
  }

  return {
    name: 'register',
    title: 'Register',
    content: [
      el(
        'section',
        { class: 'card narrow' },
        el('h1', { tabindex: '-1' }, 'Register'),
        form({
          action: 'register',
          label: 'Register',
          busyLabel: 'Registering…',
          fields: [username, email, password],
          submit,
        }),
        el(
          'p',
          { class: 'elsewhere' },
          'You have an account? ',
          el(
            'button',
            { type: 'button', class: 'link', 'data-action': 'go-login', onclick: () => app.toLogin() },
            'Log in',
          ),
        ),
      ),
    ],
    focus: username.input,
  }
}
