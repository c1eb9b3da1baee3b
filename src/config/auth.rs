//! The keys that say who clients are and what they may do.

use std::fs::File;
use std::io::Read;

use super::error::ConfigError;
use super::values::{Given, Values};
use crate::auth::digest::DigestAlgorithm;
use crate::auth::jaas;
use crate::auth::policy::Policy;
use crate::auth::rules::Rules;
use crate::auth::sasl::Credentials;
use crate::auth::scheme::{Scheme, Schemes};
use crate::auth::secret::Secret;
use crate::limits::CREDENTIALS_BYTES_MAX;

const YES: [&str; 2] = ["no", "yes"];
const TRUE: [&str; 2] = ["false", "true"];
/// The section of the file of credentials that counts unless `sasl.serverconfig` says another.
const SECTION: &str = "Server";

/// The providers that `authProvider.*` may name.
const PROVIDERS: [(&str, Scheme); 5] = [
    ("org.apache.zookeeper.server.auth.IPAuthenticationProvider", Scheme::Ip),
    ("org.apache.zookeeper.server.auth.DigestAuthenticationProvider", Scheme::Digest),
    ("org.apache.zookeeper.server.auth.SASLAuthenticationProvider", Scheme::Sasl),
    ("org.apache.zookeeper.server.auth.X509AuthenticationProvider", Scheme::X509),
    ("org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider", Scheme::Ensemble),
];

/// Takes the keys of authentication and ACLs out of `values`.
///
/// # Errors
/// When one of them cannot be, or they do not fit each other.
pub fn policy(values: &mut Values) -> Result<Policy, ConfigError> {
    let digest_algorithm = digest_algorithm(values)?;
    let super_digest = super_digest(values)?;
    let sasl = credentials(values)?;
    let schemes = schemes(values, sasl.is_some())?;
    let rules = Rules {
        skip_acl: values.choice("skipACL", YES, false)?,
        schemes,
        any_sasl_user: values.text("letAnySaslUserDoX").map(|given| given.text),
        x509_super_user: values.text("X509AuthenticationProvider.superUser").map(|it| it.text),
    };
    let ensemble_names = values
        .text("ensembleAuthName")
        .map(|given| given.text.split(',').map(|name| name.trim().to_owned()).collect());
    let super_users = values.family("superUser.").into_iter().map(|(_, given)| given);
    let sasl_super_users = super_users.chain(values.text("superUser")).map(|it| it.text).collect();
    Ok(Policy {
        required: required(values, schemes)?,
        allow_failed_sasl: values.choice("allowSaslFailedClients", TRUE, false)?,
        rules,
        digest_algorithm,
        super_digest,
        ensemble_names,
        sasl,
        sasl_super_users,
    })
}

fn digest_algorithm(values: &mut Values) -> Result<DigestAlgorithm, ConfigError> {
    const KEY: &str = "DigestAuthenticationProvider.digestAlg";
    let Some(given) = values.text(KEY) else { return Ok(DigestAlgorithm::default()) };
    let expected = "MD5, SHA1, SHA-224, SHA-256, SHA-384, SHA-512, SHA-512/224, SHA-512/256, \
                    SHA3-224, SHA3-256, SHA3-384 or SHA3-512";
    DigestAlgorithm::named(&given.text).ok_or_else(|| values.wrong(KEY, &given, expected))
}

/// `super:HASH`, as `DigestAuthenticationProvider` prints it. The value is not repeated in the
/// error: it is as good as a password to whoever can guess weak ones.
fn super_digest(values: &mut Values) -> Result<Option<Secret>, ConfigError> {
    const KEY: &str = "DigestAuthenticationProvider.superDigest";
    let Some(mut given) = values.text(KEY) else { return Ok(None) };
    match given.text.split_once(':') {
        Some((user, hash)) if !user.is_empty() && !hash.is_empty() => {
            Ok(Some(Secret::new(given.text)))
        }
        _ => {
            given.text = "(not shown)".to_owned();
            Err(values.wrong(KEY, &given, "USER:HASH, the hash in base64"))
        }
    }
}

/// The users of SASL, from the section that `sasl.serverconfig` names of the file that
/// `java.security.auth.login.config` names.
fn credentials(values: &mut Values) -> Result<Option<Credentials>, ConfigError> {
    const FILE: &str = "java.security.auth.login.config";
    let section = values.text("sasl.serverconfig");
    let password = values.text("SASLAuthenticationProvider.superPassword");
    let Some(file) = values.text(FILE) else {
        return match section {
            Some(given) => Err(needs_credentials(values, "sasl.serverconfig", &given)),
            None => Ok(None),
        };
    };
    let wrong = |values: &Values, why: String| ConfigError::Credentials {
        place: values.place(file.line),
        key: FILE,
        file: file.text.clone().into(),
        why,
    };
    let text = read(&file.text).map_err(|error| wrong(values, error.to_string()))?;
    let section = section.map_or_else(|| SECTION.to_owned(), |given| given.text);
    let mut credentials =
        jaas::credentials(&text, &section).map_err(|error| wrong(values, error.to_string()))?;
    if let Some(password) = password {
        credentials.set_password("super", Secret::new(password.text));
    }
    Ok(Some(credentials))
}

fn read(file: &str) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(CREDENTIALS_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > CREDENTIALS_BYTES_MAX {
        let why = format!("it is longer than {CREDENTIALS_BYTES_MAX} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
    }
    Ok(text)
}

fn needs_credentials(values: &Values, key: &str, given: &Given) -> ConfigError {
    let why = "it needs java.security.auth.login.config, which names the JAAS file";
    ConfigError::NotSupported { place: values.place(given.line), key: key.to_owned(), why }
}

/// The schemes that are there: ip, digest unless it is turned off, those that `authProvider.*`
/// names, and sasl where it has users.
fn schemes(values: &mut Values, sasl: bool) -> Result<Schemes, ConfigError> {
    let mut schemes = Schemes::NONE.with(Scheme::Ip);
    if values.choice("DigestAuthenticationProvider.enabled", TRUE, true)? {
        schemes = schemes.with(Scheme::Digest);
    }
    if sasl {
        schemes = schemes.with(Scheme::Sasl);
    }
    for (name, given) in values.family("authProvider.") {
        let Some((_, scheme)) = PROVIDERS.iter().find(|(class, _)| *class == given.text) else {
            let key = format!("authProvider.{name}");
            let why = "only the providers of ZooKeeper itself are there, and no class is loaded";
            return Err(ConfigError::NotSupported { place: values.place(given.line), key, why });
        };
        schemes = schemes.with(*scheme);
    }
    Ok(schemes)
}

/// `sessionRequireClientSASLAuth`, or `enforce.auth.enabled` and `enforce.auth.schemes`: what a
/// client must have proved of `there`.
fn required(values: &mut Values, there: Schemes) -> Result<Option<Schemes>, ConfigError> {
    const SASL: &str = "sessionRequireClientSASLAuth";
    const ENABLED: &str = "enforce.auth.enabled";
    const SCHEMES: &str = "enforce.auth.schemes";
    let (sasl_line, enabled_line) = (values.line(SASL), values.line(ENABLED));
    let sasl = values.choice(SASL, TRUE, false)?;
    let enabled = values.choice(ENABLED, TRUE, false)?;
    let named = values.text(SCHEMES);
    if sasl {
        if !there.has(Scheme::Sasl) {
            let given = Given { text: String::new(), line: sasl_line.expect("it is true") };
            return Err(needs_credentials(values, SASL, &given));
        }
        return Ok(Some(Schemes::NONE.with(Scheme::Sasl)));
    }
    if !enabled {
        return Ok(None);
    }
    let Some(named) = named else {
        let place = values.place(enabled_line.expect("it is true"));
        let why = "it needs enforce.auth.schemes";
        return Err(ConfigError::NotSupported { place, key: ENABLED.to_owned(), why });
    };
    let mut schemes = Schemes::NONE;
    for name in named.text.split(',').map(str::trim) {
        let Some(scheme) = there.named(name) else {
            let names: Vec<_> =
                Scheme::ALL.into_iter().filter(|scheme| there.has(*scheme)).collect();
            let names: Vec<_> = names.into_iter().map(Scheme::name).collect();
            let expected = format!("some of {}, separated by commas", names.join(", "));
            return Err(values.wrong(SCHEMES, &named, expected));
        };
        schemes = schemes.with(scheme);
    }
    Ok(Some(schemes))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::properties;

    const SASL: &str = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider";

    fn of(text: &str) -> Result<Policy, ConfigError> {
        policy(&mut Values::new(Path::new("zoo.cfg"), properties::parse(text.as_bytes()).unwrap()))
    }

    fn refusal(text: &str) -> String {
        of(text).unwrap_err().to_string()
    }

    /// A folder with a file of credentials, and the line that names it.
    fn credentials_file(text: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jaas.conf");
        std::fs::write(&file, text).unwrap();
        let line = format!("java.security.auth.login.config={}\n", file.display());
        (folder, line)
    }

    const JAAS: &str = "Server { org.apache.zookeeper.server.auth.DigestLoginModule required \
        user_super=\"spw\" user_bob=\"bobpw\"; }; \
        Other { org.apache.zookeeper.server.auth.DigestLoginModule required user_eve=evepw; };";

    #[test]
    fn without_keys_there_are_the_schemes_ip_and_digest() {
        let policy = of("").unwrap();
        assert_eq!(policy, Policy::default());
        assert!(policy.rules.schemes.has(Scheme::Ip) && policy.rules.schemes.has(Scheme::Digest));
    }

    #[test]
    fn every_key_takes_effect() {
        let (_folder, line) = credentials_file(JAAS);
        let text = format!(
            "{line}sasl.serverconfig=Other\nDigestAuthenticationProvider.digestAlg=sha-256\n\
             DigestAuthenticationProvider.enabled=false\nauthProvider.e=org.apache.zookeeper.\
             server.auth.EnsembleAuthenticationProvider\nskipACL=yes\nletAnySaslUserDoX=any\n\
             X509AuthenticationProvider.superUser=CN=a\nensembleAuthName=one, two\n\
             superUser=root\nsuperUser.2=toor\nallowSaslFailedClients=true\n\
             enforce.auth.enabled=true\nenforce.auth.schemes=sasl, ip\n"
        );
        let policy = of(&text).unwrap();
        let schemes = Schemes::NONE.with(Scheme::Ip).with(Scheme::Sasl).with(Scheme::Ensemble);
        assert_eq!(policy.rules.schemes, schemes);
        assert!(policy.rules.skip_acl && policy.allow_failed_sasl);
        assert_eq!(policy.rules.any_sasl_user.as_deref(), Some("any"));
        assert_eq!(policy.rules.x509_super_user.as_deref(), Some("CN=a"));
        assert_eq!(policy.digest_algorithm, DigestAlgorithm::Sha256);
        assert_eq!(policy.ensemble_names, Some(vec!["one".to_owned(), "two".to_owned()]));
        assert_eq!(policy.sasl_super_users, ["toor", "root"]);
        assert_eq!(policy.required, Some(Schemes::NONE.with(Scheme::Sasl).with(Scheme::Ip)));
        let users = [("eve".to_owned(), Secret::new("evepw"))];
        assert_eq!(policy.sasl, Some(Credentials::new(users)));
    }

    #[test]
    fn the_super_password_goes_before_that_of_the_file() {
        let (_folder, line) = credentials_file(JAAS);
        let policy = of(&format!("{line}SASLAuthenticationProvider.superPassword=new"));
        let users = [("super", "new"), ("bob", "bobpw")];
        let users = users.map(|(user, password)| (user.to_owned(), Secret::new(password)));
        assert_eq!(policy.unwrap().sasl, Some(Credentials::new(users)));
    }

    #[test]
    fn sasl_may_be_required_where_it_is_there() {
        let (_folder, line) = credentials_file(JAAS);
        let sasl = Some(Schemes::NONE.with(Scheme::Sasl));
        let required = |text: String| of(&text).unwrap().required;
        assert_eq!(required(format!("{line}sessionRequireClientSASLAuth=true")), sasl);
        let provider = format!("authProvider.1={SASL}\n");
        assert_eq!(required(format!("{provider}sessionRequireClientSASLAuth=true")), sasl);
        assert_eq!(required("enforce.auth.schemes=digest".to_owned()), None);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (text, message) in [
            (
                "DigestAuthenticationProvider.digestAlg=SHA3256",
                "zoo.cfg:1: DigestAuthenticationProvider.digestAlg is \"SHA3256\", expected MD5, SHA1, SHA-224, SHA-256, SHA-384, SHA-512, SHA-512/224, SHA-512/256, SHA3-224, SHA3-256, SHA3-384 or SHA3-512",
            ),
            (
                "authProvider.1=com.example.Own",
                "zoo.cfg:1: authProvider.1: only the providers of ZooKeeper itself are there, and no class is loaded",
            ),
            (
                "sasl.serverconfig=Server",
                "zoo.cfg:1: sasl.serverconfig: it needs java.security.auth.login.config, which names the JAAS file",
            ),
            (
                "sessionRequireClientSASLAuth=true",
                "zoo.cfg:1: sessionRequireClientSASLAuth: it needs java.security.auth.login.config, which names the JAAS file",
            ),
            (
                "enforce.auth.enabled=true",
                "zoo.cfg:1: enforce.auth.enabled: it needs enforce.auth.schemes",
            ),
            (
                "enforce.auth.enabled=true\nenforce.auth.schemes=digest,sasl",
                "zoo.cfg:2: enforce.auth.schemes is \"digest,sasl\", expected some of ip, digest, separated by commas",
            ),
            (
                "java.security.auth.login.config=/nonexistent",
                "zoo.cfg:1: java.security.auth.login.config: /nonexistent: No such file or directory (os error 2)",
            ),
        ] {
            assert_eq!(refusal(text), message);
        }
        let (_folder, line) = credentials_file("Server { m required user_a=\"secret\"; };");
        let message = refusal(&line);
        assert!(message.contains("line 1: the section has the login module m"), "{message}");
        assert!(!message.contains("secret"), "{message}");
        let (_folder, line) = credentials_file(JAAS);
        let message = refusal(&format!("{line}sasl.serverconfig=Third"));
        assert!(message.ends_with("there is no section Third"), "{message}");
    }
}
