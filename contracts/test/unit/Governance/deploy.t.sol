// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract GovernanceDeploy is Network {
    function test_deploy__wiring__is_what_was_computed() public view {
        assertEq(address(staking.log()), address(commitments));
        assertEq(staking.disputes(), address(disputes));
        assertEq(address(settlement.rewards()), address(rewards));
        assertEq(disputes.contradictions(), address(contradictions));
        assertEq(escrow.settlement(), address(settlement));
        assertEq(address(pins.log()), address(commitments));
        assertEq(settlement.authority(), address(access));
    }

    function test_deploy__lifetimes_too_short__reverts() public {
        TestDeployment d = TestDeployment(vm.deployCode("TestDeployment.sol:TestDeployment"));
        for (uint256 i; i < 9; ++i) {
            Deployment.Params memory p = _params();
            if (i == 0) p.unbondingPeriod = 649;
            if (i == 1) p.challengeWindow = 9;
            if (i == 2) p.disputes.disputeWindow = 49;
            if (i == 3) p.retention = 599;
            if (i == 4) p.times.keyEpochs = 99;
            if (i == 5) p.adminDelay = 999;
            if (i == 6) p.thawPeriod = 49;
            if (i == 7) p.pinWindow = 701;
            if (i == 8) p.safetyMargin = 41;
            vm.expectPartialRevert(Deployment.TooShort.selector);
            d.deploy(address(this), address(this), address(this), p);
        }
    }

    function test_deploy__parameter_files__have_lifetimes_that_hold() public {
        Deploy script = Deploy(vm.deployCode("Deploy.s.sol:Deploy"));
        string[2] memory networks = ["devnet", "production"];
        for (uint256 i; i < 2; ++i) {
            Deployment.Params memory p = script.readParams(string.concat("deploy/params/", networks[i], ".json"));
            TestDeployment(vm.deployCode("TestDeployment.sol:TestDeployment")).deploy(address(this), address(this), address(this), p);
            if (i == 1) assertGt(p.challengeWindow, 1 days);
        }
    }
}
