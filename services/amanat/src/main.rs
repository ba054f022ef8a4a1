fn main() -> std::process::ExitCode {
    amanat::main()
}
