# Sidekiq: the jobs (`sidekiq -r ./sidekiq_jobs.rb`), and the producer (`ruby sidekiq_jobs.rb LOAD`).
require "json"
require "sidekiq"

URL = ENV.fetch("BENCHMARKS_URL")
Sidekiq.configure_client { |config| config.redis = { url: URL } }
Sidekiq.logger.level = Logger::WARN if ENV.fetch("BENCHMARKS_LOG", "WARNING") == "WARNING"

# What ran. Sidekiq's basic fetch acknowledges nothing, so the end of the last job is the end: it is told to the suite by a key.
module Tally
  MARKS = "\0".b * ENV.fetch("BENCHMARKS_JOBS", "0").to_i
  DELAYS = []
  LOCK = Mutex.new
  @began = []
  @cpu_began = 0.0
  @done = 0

  def self.mark(n)
    MARKS.setbyte(n, MARKS.getbyte(n) + 1)
    return unless n.zero?

    @began = [Process.clock_gettime(Process::CLOCK_MONOTONIC)]
    @cpu_began = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
  end

  def self.done
    last = LOCK.synchronize { (@done += 1) == MARKS.bytesize }
    Sidekiq.redis { |redis| redis.set("benchmarks:done", 1) } if last
  end

  def self.write
    path = File.join(ENV.fetch("BENCHMARKS_TALLY"), Process.pid.to_s)
    File.binwrite("#{path}.marks", MARKS)
    File.write("#{path}.json", JSON.dump("began" => @began, "cpu_began" => @cpu_began, "delays" => DELAYS))
  end
end

Sidekiq.configure_server do |config|
  config.redis = { url: URL }
  config.average_scheduled_poll_interval = 5 # its default
  config.on(:shutdown) { Tally.write }
end

class Noop
  include Sidekiq::Worker

  def perform(n, _s)
    Tally.mark(n)
    Tally.done
  end
end

class Sleep
  include Sidekiq::Worker

  def perform(n, ms)
    Tally.mark(n)
    sleep(ms / 1000.0)
    Tally.done
  end
end

class Stamp
  include Sidekiq::Worker

  def perform(n, at_ns, _us)
    late = Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond) - at_ns
    Tally.mark(n)
    Tally::DELAYS << late / 1e6 unless n.zero?
    Tally.done
  end
end

class Late
  include Sidekiq::Worker

  def perform(n, due_ms)
    late = Process.clock_gettime(Process::CLOCK_REALTIME, :float_millisecond) - due_ms
    Tally.mark(n)
    Tally::DELAYS << late
    Tally.done
  end
end

def produce(load)
  job = Object.const_get(load["job"]) # one of the classes above: the suite names it
  first = (Time.now.to_f * 1000).to_i
  jobs = load["jobs"]
  arguments = lambda do |n|
    case load["job"]
    when "Sleep" then [n, load["sleep_ms"]]
    when "Stamp" then [n, Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond), load["spin_us"]]
    when "Late" then [n, first + load["lead_ms"] + (n * load["spread_ms"] / jobs)]
    else [n, "x"]
    end
  end
  Sidekiq.redis(&:ping)
  began = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  used = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
  case load["mode"]
  when "bulk"
    (0...jobs).each_slice(1000) do |slice|
      items = { "class" => job, "args" => slice.map(&arguments) }
      items["at"] = items["args"].map { |_, due| due / 1000.0 } if load["job"] == "Late"
      Sidekiq::Client.push_bulk(items)
    end
  else
    due = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    jobs.times do |n|
      job.perform_async(*arguments.call(n))
      next unless load["mode"] == "paced"

      due += load["pause_ms"] / 1000.0 * (0.5 + rand)
      left = due - Process.clock_gettime(Process::CLOCK_MONOTONIC)
      sleep(left) if left.positive?
    end
  end
  seconds = Process.clock_gettime(Process::CLOCK_MONOTONIC) - began
  puts JSON.dump("seconds" => seconds, "cpu_seconds" => Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) - used)
end

produce(JSON.parse(ARGV.fetch(0))) if $PROGRAM_NAME == __FILE__
