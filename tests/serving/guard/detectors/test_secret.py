"""Secrets behind a cue in many shapes and languages; code, placeholders and paths behind one stay."""

from __future__ import annotations

import pytest

from tests.serving.guard.detectors.cleaned import cleaned, marked

PASSWORDS = [
    "Пароль — «Zima2024x»",
    "şifresi: «Yaz2024x»",
    "sshpass -p '«S3cret99»' ssh h",
    "mysql -u root -p«S3cret12» db",
    "docker login -u bob -p «S3cret99» r.example",
    '{"text": "so\\npass: «hunter2x»"}',
    '{"text": "so\\ncurl -u bob:«hunter2» h"}',
    "DB_PASS=«hunter2x»",
    "pass: «hunter2x»",
    "PASSWORD=«hunter2x»",
    "password: «hunter2»",
    "password: «P@ss!w0rd#1»",
    "password is «c0rrect-horse»",
    "the password is: «hunter2x»",
    "mot de passe: «Soleil2024»",
    "mot de passe est «Soleil2024»",
    "contraseña: «Sol2024x»",
    "Passwort: «Sonne2024»",
    "Kennwort lautet «Sonne2024»",
    "senha: «Sol2024x»",
    "hasło: «Slonce2024»",
    "пароль: «Solnce2024»",
    "Пароль = «Solnce2024»",
    "wachtwoord: «Zon2024x»",
    "lösenord: «Sol2024x»",
    "şifre: «Gunes2024»",
    "密码：«abc12345»",
    "密码是«abc12345»",
    "パスワード: «abc12345»",
    "パスワードは «abc12345» です",
    "비밀번호는 «abc12345»",
    "curl -u joe:«s3cret1» https://x.example",
    "curl -sS --user admin:«topsecret» https://x.example",
    "localhost:5432:db:joe:«s3cret»",
    "*:*:*:joe:«t0psecret»",
    "PGPASSWORD=«s3cretpw» psql",
    "tool --password «s3cretpw»",
    "mysql --password=«s3cretpw»",
    "machine x.example login joe password «s3cretpw»",
    "<password>«s3cretpw»</password>",
    '<add key="DbPassword" value="«s3cretpw»"/>',
    "- name: DB_PASSWORD\n  value: «s3cretpw»",
    '{"name": "DB_PASSWORD", "value": "«s3cretpw»"}',
    '{"password": "«s3cretpw»"}',
    'password = "«s3cretpw»"',
    "password => '«s3cretpw»'",
    "define('DB_PASSWORD', '«s3cretpw»');",
    "jdbc:mysql://h/db?user=x&password=«s3cretpw»",
    "Server=a;Uid=sa;Pwd=«s3cr3tpw»;",
    "spring.datasource.password=«s3cretpw»",
    'userPass = "«s3cretpw»"',
    'password: "!«aB3dE5fG7»"',
    "Authorization: Basic «c3ZjOnMzY3JldC1Fbm91Z2g=»",
]

TOKENS = [
    "clé api : «9f8e7d6c5b4a39281706f5e4d3c2b1a0»",
    "API-Schlüssel: «9f8e7d6c5b4a39281706f5e4d3c2b1a0»",
    "SECRET_KEY_BASE=«0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b»",
    "APP_KEY=base64:«aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5zA7bC9dE=»",
    '"client_secret": "«aB3dE5fG7hI9jK1lM3»"',
    'AccountKey="«Ab3+xY7/zQ9wE2rT5yU8iO==»"',
    "AccountKey=«abcdEFGH1234567890abcdEFGH==»;",
    "tool --token «aB3dE5fG7hI9jK1lM3»",
    "api key: «0123456789abcdef0123456789abcdef»",
]

ORDINARY = [
    "43tiSm5/vczUGsi1e5EGXkF0CVJzX82NYAYIw5GoqPw=\nE8467abc",
    '{"text": "5EGXkF0CVJzX82NYAYIw5GoqPw=\\nE8467abc"}',
    '{"text": "PASS=\\nE8467abc"}',
    "password = base64.b64decode(x1)",
    'password=os.environ["DB_PASS1"]',
    "password=os.environ[0]",
    "password: str",
    "pass: true",
    "password = config.db_password1",
    "password: process.env.DB_PASS1",
    "password = $this->password1",
    "password: ${DB_PASS1}",
    "password: {{ db_pass1 }}",
    "password: <your-password-1>",
    "password: %(pass1)s",
    "password: ********",
    "password=self.password2, x",
    "password=password1)",
    "password = sys.argv[1]",
    "password=hashlib.sha256(x1).hexdigest()",
    'pw = getpass.getpass("Pass1: ")',
    "PASS: test_foo1",
    "passed: 12 of 14",
    "bypass: v1.2.3x",
    "compass=n3w5e7s9",
    "password must be 8-12 characters",
    '"password": "At least 8 characters"',
    "password: utf-8 only",
    "method: md5, password: scram-sha-256",
    'password = "conf/passwords1.txt"',
    "password: ./secrets/db1.txt",
    "passwordHash = bcrypt.hash(x1)",
    "password: 'required|min:8'",
    "token: str = None",
    "token = tokens[0]",
    "token = tokenizer.convert_ids_to_tokens(ids1)",
    "secret: /run/secrets/db1",
    "secret: my-app-tls-secret-2024",
    "secret: db_creds_prod_2024_eu",
    "private_key: x25519.X25519PrivateKey",
    "signingKey = core_1.crypto.createPublicKey(leaf)",
    'publicKeyToken="1fc8b3b9a1e18e3b"',
    '"AWS::X::Secret": "c85175a4ebcce361"',
    "max_tokens=4096",
    "curl -u $USER:$PASS https://x.example",
    "curl -u user:password https://x.example",
    "docker run -u 1000:1000 image",
    "a.py:12:80:E501:line",
    "fe80:5432:ab12:0cd3:9876:54ab:12cd:34ef",
    "key: value1",
    "--password examplePa$$w0rd --user x",
    "--hsm-partition-password A1b2c3d4 /",
    "utm_source=pypi-jsonschema-specifications",
]


@pytest.mark.parametrize("text", PASSWORDS)
def test_passwords_are_masked(text: str) -> None:
    plain, masked = marked(text, "PASSWORD")

    assert cleaned(plain) == masked


@pytest.mark.parametrize("text", TOKENS)
def test_tokens_are_masked(text: str) -> None:
    plain, masked = marked(text, "API_KEY")

    assert cleaned(plain) == masked


@pytest.mark.parametrize("text", ORDINARY)
def test_code_and_placeholders_stay(text: str) -> None:
    for framed in (text, f"x\n{text}\ny"):
        assert cleaned(framed) == framed
