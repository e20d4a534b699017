-- Sends every CT series and radiograph that Orthanc receives to the anomap node: once, whole, and never its results.
--
-- A series is sent when it is stable (StableAge seconds without a new image). How many of its images the node has taken
-- stands in its metadata, so that an identical resend starts nothing and late slices do. Jobs that fail are kept and
-- tried again: when the node takes something else, when a series becomes stable, when Orthanc starts, every
-- LuaHeartBeatPeriod seconds (Orthanc 1.11.1 or later), or when somebody runs retry.sh.

local NODE = 'anomap'           -- its name among the DicomModalities
local TITLE = 'ANOMAP'          -- its AE title there
local WANTED = { CT = true, CR = true, DX = true }
local MARK = '4242'             -- user metadata of a series: number of images that the node has taken
local GIVE_UP_DAYS = 7          -- older jobs are left alone
local failed = true             -- whether a look at all jobs may be worth it: Orthanc waits for its scripts

local function Get(path)
  return ParseJson(RestApiGet(path))
end

local function Mark(series)
  for _, name in ipairs(Get('/series/' .. series .. '/metadata')) do
    if name == MARK then
      return RestApiGet('/series/' .. series .. '/metadata/' .. MARK)
    end
  end
  return ''
end

local function IsOurs(job)
  return job['Type'] == 'DicomModalityStore' and job['Content']['RemoteAet'] == TITLE
end

local function RetryFailed()
  if not failed then
    return
  end
  failed = false
  local since = os.date('!%Y%m%dT%H%M%S', os.time() - GIVE_UP_DAYS * 86400)
  for _, job in ipairs(Get('/jobs?expand')) do
    if job['State'] == 'Failure' and IsOurs(job) and job['CreationTime'] > since then
      print('anomap: sending again, job ' .. job['ID'])
      RestApiPost('/jobs/' .. job['ID'] .. '/resubmit', '')
    end
  end
end

function OnStableSeries(series, tags, metadata)
  if not WANTED[tags['Modality']] or tags['Manufacturer'] == 'anomap' then
    return
  end
  local images = #Get('/series/' .. series)['Instances']
  if Mark(series) ~= string.format('%d', images) then
    local order = { Resources = { series }, Asynchronous = true, Permissive = false }
    RestApiPost('/modalities/' .. NODE .. '/store', DumpJson(order, true))
  end
  RetryFailed()
end

function OnJobSuccess(id)
  local job = Get('/jobs/' .. id)
  if not IsOurs(job) then
    return
  end
  for _, series in ipairs(job['Content']['ParentResources']) do
    local images = string.format('%d', job['Content']['InstancesCount'])
    RestApiPut('/series/' .. series .. '/metadata/' .. MARK, images)
  end
  RetryFailed() -- the node is there
end

function OnJobFailure(id)
  if IsOurs(Get('/jobs/' .. id)) then
    failed = true
    print('anomap: could not send, will try again, job ' .. id)
  end
end

function OnHeartBeat()
  RetryFailed()
end

function Initialize()
  RetryFailed()
end
