# Swap, restart, ask the health page up to 10 times; if the deploy fails after its swap, link the release before and
# restart. Run as: cap production deploy BRANCH=NEW
set :application, "app"
set :repo_url, "/srv/app.git"
set :branch, ENV.fetch("BRANCH")
set :deploy_to, "/srv/app"
set :keep_releases, 5

namespace :deploy do
  task :remember_current do
    on roles(:app) do
      set :release_before, capture(:readlink, current_path) if test("[ -L #{current_path} ]")
    end
  end
  before :starting, :remember_current

  task :restart_gunicorn do
    on roles(:app) do
      set :restarted, true
      execute :systemctl, "restart", "gunicorn"
    end
  end
  after :publishing, :restart_gunicorn

  task :health_check do
    on roles(:app) do
      healthy = (1..10).any? do
        test(:curl, "-fsS", "--max-time", "2", "-o", "/dev/null", "http://localhost/health/") || (sleep(2); false)
      end
      raise "#{fetch(:branch)} is not healthy" unless healthy
    end
  end
  after :restart_gunicorn, :health_check

  task :back do
    on roles(:app) do
      next unless fetch(:restarted) && fetch(:release_before)

      execute :ln, "-sfn", fetch(:release_before), current_path
      execute :systemctl, "restart", "gunicorn"
    end
  end
  after :failed, :back
end
