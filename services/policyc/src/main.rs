fn main() -> std::process::ExitCode {
    amanat_policyc::main()
}
