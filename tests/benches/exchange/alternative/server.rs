//! A PostgreSQL server of its own, with the configuration that operators of the exchange are handed, which two agencies
//! reach over TLS, each by its own certificate.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Seek as _, SeekFrom},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use amanat_tests::postgres::{self, Cluster, query};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};

/// What is loaded of PostgreSQL's contributions and Debian's packages.
const EXTENSIONS: [&str; 2] = ["pgaudit", "pgcrypto"];
const SETTINGS: [&str; 2] = [
    "shared_preload_libraries=pgaudit",
    // In its favour: no checkpoint falls into a cell.
    "max_wal_size=8GB",
];
pub(crate) const SOURCE: &str = "police";
pub(crate) const READER: &str = "shelter";
const WHO_MAY_CONNECT: &str = "\
local    all     all             trust
hostssl  amanat  police,shelter  127.0.0.1/32  cert
";

pub(crate) struct Server {
    cluster: Cluster,
    binaries: PathBuf,
    /// The process whose children are all others.
    pub(crate) postmaster: u32,
}

impl Server {
    /// # Errors
    /// What is not installed.
    pub(crate) fn start() -> Result<Self, String> {
        let binaries = postgres::binaries().ok_or("PostgreSQL is not installed")?;
        let libraries = told(&binaries, "pg_config", "--pkglibdir");
        for extension in EXTENSIONS {
            let library = Path::new(&libraries).join(extension).with_extension("so");
            if !library.exists() {
                return Err(format!("{extension} is not installed"));
            }
        }
        let cluster = Cluster::start_with(SETTINGS);
        let server = Self {
            postmaster: cluster.postmaster(),
            binaries,
            cluster,
        };
        server.admit_agencies();
        Ok(server)
    }

    pub(crate) fn version(&self) -> String {
        self.run("SHOW server_version")
    }

    pub(crate) fn program(&self, name: &str) -> Command {
        Command::new(self.binaries.join(name))
    }

    /// By the superuser, in one transaction; the rows.
    pub(crate) fn run(&self, sql: &str) -> String {
        query(&self.cluster.superuser_url(), sql)
    }

    /// By an agency over TLS.
    pub(crate) fn run_as(&self, agency: &str, sql: &str) -> String {
        query(&self.url(agency), sql)
    }

    pub(crate) fn url(&self, agency: &str) -> String {
        let certificate = self.cluster.certificate_of(agency);
        self.cluster.tls_url(agency) + "&hostaddr=127.0.0.1" + &certificate
    }

    pub(crate) fn log_length(&self) -> u64 {
        fs::metadata(self.log()).unwrap().len()
    }

    /// How often, from there on, the log says that the agency did so to the records, as in `READ,SELECT`.
    pub(crate) fn audited(&self, from: u64, agency: &str, deed: &str) -> usize {
        let mut log = File::open(self.log()).unwrap();
        log.seek(SeekFrom::Start(from)).unwrap();
        let (by, of) = (
            format!(" {agency}@amanat LOG:  AUDIT: OBJECT,"),
            format!(",{deed},TABLE,public.record,"),
        );
        let lines = BufReader::new(log).lines().map(Result::unwrap);
        lines
            .filter(|line| line.contains(&by) && line.contains(&of))
            .count()
    }

    fn log(&self) -> PathBuf {
        self.cluster.path().join("server.log")
    }

    /// The cluster's own authority is gone when it has signed; clients know the server by it all the same.
    fn admit_agencies(&self) {
        let folder = self.cluster.path();
        let authority = authority();
        for agency in [SOURCE, READER] {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, agency);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &authority.issuer).unwrap();
            let file = |kind| folder.join("tls").join(format!("{agency}.{kind}"));
            fs::write(file("crt"), certificate.pem()).unwrap();
            fs::write(file("key"), key.serialize_pem()).unwrap();
            // As libpq demands.
            fs::set_permissions(file("key"), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let data = folder.join("data");
        fs::write(data.join("root.crt"), authority.certificate).unwrap();
        fs::write(data.join("pg_hba.conf"), WHO_MAY_CONNECT).unwrap();
        self.run("SELECT pg_reload_conf()");
    }
}

struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority() -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Authority {
        certificate: params.self_signed(&key).unwrap().pem(),
        issuer: Issuer::new(params, key),
    }
}

fn told(binaries: &Path, program: &str, argument: &str) -> String {
    let output = Command::new(binaries.join(program))
        .arg(argument)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
