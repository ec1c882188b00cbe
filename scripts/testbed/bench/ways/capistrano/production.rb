server "localhost", user: "root", roles: %w[app], ssh_options: {
  keys: %w[/root/.ssh/id_rsa], verify_host_key: :never
}
