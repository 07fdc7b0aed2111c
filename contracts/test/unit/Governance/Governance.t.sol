// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {GovernanceDeploy} from "./deploy.t.sol";
import {GovernancePause} from "./pause.t.sol";
import {GovernanceRoles} from "./roles.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract GovernanceTest is GovernanceDeploy, GovernancePause, GovernanceRoles {}
